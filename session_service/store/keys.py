"""The key schema, in one place.

Every key carries its shard (two hex digits) as hash tag, so that all that belongs to a session is
in one Redis Cluster slot. ``session-service`` is the prefix from the settings.

``session-service:{3f}:id:<session>``
    string: the session's record, or what the sweep leaves of it (``records.py``); until its
    retention ends
``session-service:{3f}:msg:<session>``
    stream: its messages, entry ids ``<createdAt in ms>-0``; as long as the session can last
``session-service:{3f}:kept:<session>``, ``session-service:{3f}:parties:<session>``
    stream and string: the messages and the agent and user of a session that is over, for as long as
    conversations are kept
``session-service:{3f}:warn``
    sorted set: live sessions, by the time at which their warning is due
``session-service:{3f}:expire``
    sorted set: live sessions whose warning was due, by their deadline
``session-service:{3f}:forget``
    sorted set: expired sessions, by the end of their retention
``session-service:{3f}:unreadable``
    sorted set: sessions whose record was met and could not be read, by when it is looked at again;
    the sweep takes them out of warn and expire when they are overdue for ten seconds
``session-service:{3f}:listing``
    sorted set, all of score 0: ``u<user>:<agent>:<session>`` and ``a<agent>:<session>`` of each
    session that was not ended and whose expiry was not acted on
``session-service:{3f}:events``
    stream, the outbox: what happened to the shard's sessions, in one field, ``event``: the type
    (domain/event_types.py), session, agent, user, details
``session-service:{3f}:trimmed``
    string: the past of the outbox: its epoch, when a node last saw it, what was taken from it to
    bound it, which positions are doubtful (lua/events/past.lua)
``session-service:{7a}:claim:<SHA-256 of an Idempotency-Key; its first two digits are the shard>``
    hash: the ``request`` it was used for (SHA-256), the ``seed`` of what that does, and where that
    takes several steps a ``lease`` until when they may take, then the ``answer``; a day
``session-service:{3f}:idem:<name from the seed>:<number>``
    string: what a script replied that a request with an Idempotency-Key asked for, JSON, without
    the tail of the record in it, after the number of that tail, or 0 (lua/remember.lua); a day
``session-service:{3f}:tails:<session>``
    hash: by number the tails (agent, user, metadata) of the records in those replies; a day
``session-service:{3f}:used:<session>``
    string: how many requests with an Idempotency-Key the session had in a day, at least
``session-service:{00}:probe``
    what commands are tried on, to see whether they are permitted (lua/probe.lua); it never stays
``session-service:{00}:meta``
    hash: the newest ``format`` that a node has written, and the data set's ``epoch``, 16 hex digits

A webhook's id names a shard as a session's does: that of its queue. A lane is a session's events
for one webhook, which are delivered one after the other.

``session-service:{00}:webhooks``
    hash: webhooks by id, ``<0|1: is on> <createdAt in ms> <JSON>``, with the end of the previous
    secret, in ms, before the JSON of one whose secret was replaced; ``version``, which changes with
    each change; ``settings``, a random mark from when the settings' endpoints were registered
``session-service:{3f}:webhook:queue:<webhook>``
    sorted set, all of score 0: ``<session> <event>`` of what is to be delivered, each lane in order
    (lua/webhooks/queue.lua)
``session-service:{3f}:webhook:bodies:<webhook>``
    hash: by event ``<failures> <queued at, ms> <last failure, or -> <event as in the outbox>``
``session-service:{3f}:webhook:due:<webhook>``
    sorted set: lanes by when their first event is to be delivered
``session-service:{3f}:webhook:leased:<webhook>``
    sorted set: lanes whose first event is being delivered, by when another node takes it
``session-service:{3f}:webhook:dead:<webhook>``
    sorted set: events that are parked, by when they were
``session-service:{3f}:webhook:state:<webhook>``
    hash: by shard the last event that came to the queue, or was dropped; ``dropped``, ``failures``
    and ``reviving``, counts (lua/webhooks/record_result.lua); ``clock``, when lanes were last
    claimed

A session that can be read is in exactly one of warn, expire and forget. All keys have a TTL; those
of a shard are kept a day longer than the last of their entries can matter.
"""

from collections.abc import Sequence

from session_service.store.client.protocol import KeySet, bulk
from session_service.store.records import ID_LENGTH

# Which part of a name stands for which key; the scripts know them by these names in capitals.
_PARTS = {
    "session": "id:",
    "messages": "msg:",
    "kept": "kept:",
    "parties": "parties:",
    "warn": "warn",
    "expire": "expire",
    "forget": "forget",
    "unreadable": "unreadable",
    "listing": "listing",
    "events": "events",
    "trimmed": "trimmed",
    "meta": "meta",
    "claim": "claim:",
    "outcome": "idem:",
    "tails": "tails:",
    "used": "used:",
    "probe": "probe",
    "webhooks": "webhooks",
    "queue": "webhook:queue:",
    "bodies": "webhook:bodies:",
    "due": "webhook:due:",
    "leased": "webhook:leased:",
    "dead": "webhook:dead:",
    "state": "webhook:state:",
}
# Of one session, or of one webhook: its id follows.
_WITH_ID = ("session", "messages", "queue", "bodies", "due", "leased", "dead", "state")


class Keys:
    """Names keys under a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        # As packed, in two pieces or more where a session's id is to go between them.
        self._templates: dict[tuple[tuple[str, ...], str], list[bytes]] = {}
        self._of_shards: dict[tuple[tuple[str, ...], str], KeySet] = {}

    def of_session(self, names: tuple[str, ...], shard: str, session_id: str) -> KeySet:
        """Return the keys of these names for a session of the shard."""
        template = self._templates.get((names, shard))
        if template is None:
            template = self._templates[names, shard] = self._template(names, shard)
        return KeySet(shard, len(names), session_id.encode().join(template))

    def of_webhook(self, names: tuple[str, ...], webhook_id: str) -> KeySet:
        """Return the keys of these names for a webhook."""
        return self.of_session(names, webhook_id[:2], webhook_id)

    def of_shard(self, names: tuple[str, ...], shard: str) -> KeySet:
        """Return the keys of these names for a shard.

        In place of a session's own keys there are their prefixes then, to put its id behind.
        """
        keys = self._of_shards.get((names, shard))
        if keys is None:
            keys = self._of_shards[names, shard] = self.of_shards(names, (shard,))
        return keys

    def of_shards(self, names: tuple[str, ...], shards: Sequence[str]) -> KeySet:
        """Return the keys of these names for each of some shards, one shard after the other."""
        return KeySet.of(shards[0], [self._name(name, shard) for shard in shards for name in names])

    def one(self, name: str, shard: str, of: str) -> KeySet:
        """Return a key of the shard that belongs to something other than a session."""
        return KeySet.of(shard, [self._name(name, shard) + of.encode()])

    def and_more(self, keys: KeySet, **more: str) -> KeySet:
        """Return keys and more of the same shard, by name: what each belongs to, or ''."""
        added = [self._name(name, keys.shard) + of.encode() for name, of in more.items()]
        return KeySet.of(keys.shard, [*keys.names(), *added])

    def _name(self, name: str, shard: str) -> bytes:
        return f"{self._prefix}:{{{shard}}}:{_PARTS[name]}".encode()

    def _template(self, names: tuple[str, ...], shard: str) -> list[bytes]:
        packed = bulk(b"%d" % len(names))
        for name in names:
            start = self._name(name, shard)
            if name in _WITH_ID:
                packed += b"$%d\r\n%b\0\r\n" % (len(start) + ID_LENGTH, start)
            else:
                packed += bulk(start)
        return packed.split(b"\0")
