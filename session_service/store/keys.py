"""The key schema, in one place.

Every key carries its shard (two hex digits) as hash tag, so that all that belongs to a session is
in one Redis Cluster slot. ``sess`` is the prefix from the settings.

``sess:{3f}:id:<session>``
    string: the session (``records.py``), or ``expired``; until its retention ends
``sess:{3f}:msg:<session>``
    stream: its messages, entry ids ``<createdAt in ms>-0``; as long as the session can last
``sess:{3f}:warn``
    sorted set: live sessions, by the time at which their warning is due
``sess:{3f}:expire``
    sorted set: live sessions whose warning was due, by their deadline
``sess:{3f}:forget``
    sorted set: expired sessions, by the end of their retention
``sess:{3f}:users``, ``sess:{3f}:agents``
    sorted sets, all of score 0, for listing: ``<user>:<agent>:<session>``, ``<agent>:<session>``
``sess:{3f}:events``
    stream, the outbox: what happened to the shard's sessions, in one field, ``event``: the type
    (created, message, renewed, updated, expiring, expired, ended), session, agent, user, details

A session is in exactly one of warn, expire and forget. All keys have a TTL; those of a shard are
kept a day longer than the last of their entries can matter.
"""

from typing import NamedTuple

from session_service.domain.ids import SHARDS


def bulk(value: bytes) -> bytes:
    """Write a value as the protocol's bulk string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


class KeySet(NamedTuple):
    """The keys of one call: of a shard, and of a session where it is about one."""

    size: int
    packed: bytes  # as the protocol has them, their count first

    def names(self) -> list[bytes]:
        """Return the keys one by one."""
        return self.packed.split(b"\r\n")[3::2]


class Keys:
    """Names keys under a prefix."""

    def __init__(self, prefix: str) -> None:
        names = ("warn", "expire", "forget", "users", "agents", "events")
        self._of_shard: dict[str, KeySet] = {}
        self._of_record: dict[str, bytes] = {}
        self._of_session: dict[str, tuple[bytes, bytes]] = {}
        self._prefixes: dict[str, tuple[bytes, bytes]] = {}
        for shard in SHARDS:
            start = f"{prefix}:{{{shard}}}:"
            packed = b"".join(bulk(f"{start}{name}".encode()) for name in names)
            session, messages = f"{start}id:".encode(), f"{start}msg:".encode()
            self._prefixes[shard] = session, messages
            self._of_shard[shard] = KeySet(len(names), bulk(b"%d" % len(names)) + packed)
            # A session id has 36 bytes, so all but the id itself is written beforehand.
            self._of_record[shard] = bulk(b"1") + b"$%d\r\n" % (len(session) + 36) + session
            self._of_session[shard] = (
                bulk(b"%d" % (len(names) + 2))
                + packed
                + b"$%d\r\n" % (len(session) + 36)
                + session,
                b"\r\n$%d\r\n" % (len(messages) + 36) + messages,
            )
        self._session_keys = len(names) + 2

    def of_shard(self, shard: str) -> KeySet:
        """Return the keys of a shard: warn, expire, forget, users, agents, events."""
        return self._of_shard[shard]

    def of_record(self, shard: str, session_id: str) -> KeySet:
        """Return the session's key alone."""
        return KeySet(1, b"%b%b\r\n" % (self._of_record[shard], session_id.encode()))

    def of_session(self, shard: str, session_id: str) -> KeySet:
        """Return the keys of a shard, then the session's own: session, messages."""
        before_session, before_messages = self._of_session[shard]
        member = session_id.encode()
        return KeySet(
            self._session_keys,
            b"".join((before_session, member, before_messages, member, b"\r\n")),
        )

    def prefixes(self, shard: str) -> tuple[bytes, bytes]:
        """Return what stands before a session id in its session key and its messages key."""
        return self._prefixes[shard]
