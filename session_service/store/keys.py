"""The key schema, in one place.

Every key carries its shard (two hex digits) as hash tag, so that all that belongs to a session is
in one Redis Cluster slot. ``sess`` is the prefix from the settings.

``sess:{3f}:id:<session>``
    string: the session (``records.py``), or ``expired``; until its retention ends
``sess:{3f}:msg:<session>``
    stream: its messages, entry ids ``<createdAt in ms>-0``; as long as the session
``sess:{3f}:warn``
    sorted set: live sessions, by the time at which their warning is due
``sess:{3f}:expire``
    sorted set: live sessions whose warning was due, by their deadline
``sess:{3f}:forget``
    sorted set: expired sessions, by the end of their retention
``sess:{3f}:users``, ``sess:{3f}:agents``
    sorted sets, all of score 0, for listing: ``<user>:<agent>:<session>``, ``<agent>:<session>``
``sess:{3f}:events``
    stream, the outbox: what happened to the shard's sessions

A session is in exactly one of warn, expire and forget. All keys have a TTL; those of a shard are
kept a day longer than the last of their entries can matter.
"""

from session_service.domain.ids import SHARDS


class Keys:
    """Names keys under a prefix."""

    def __init__(self, prefix: str) -> None:
        self._shard_keys = {
            shard: tuple(
                f"{prefix}:{{{shard}}}:{name}".encode()
                for name in ("warn", "expire", "forget", "users", "agents", "events")
            )
            for shard in SHARDS
        }
        self._session_prefix = {s: f"{prefix}:{{{s}}}:id:".encode() for s in SHARDS}
        self._messages_prefix = {s: f"{prefix}:{{{s}}}:msg:".encode() for s in SHARDS}

    def of_shard(self, shard: str) -> tuple[bytes, ...]:
        """Return the keys of a shard: warn, expire, forget, users, agents, events."""
        return self._shard_keys[shard]

    def of_session(self, shard: str, session_id: str) -> tuple[bytes, ...]:
        """Return the keys of a shard, then the session's own: session, messages."""
        member = session_id.encode()
        return (
            *self._shard_keys[shard],
            self._session_prefix[shard] + member,
            self._messages_prefix[shard] + member,
        )

    def prefixes(self, shard: str) -> tuple[bytes, bytes]:
        """Return what stands before a session id in its session key and its messages key."""
        return self._session_prefix[shard], self._messages_prefix[shard]
