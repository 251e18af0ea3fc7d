"""The key schema.

The shard of a key (two hex digits) is its hash tag, so all keys of a session are in one slot of a
Redis Cluster. ``session-service`` is the prefix from the settings.

In records, events and the sets of sessions, an id is its 16 bytes; in names and in the queues of
webhooks, it is its text. ``session-service show`` prints all of them as text.

``session-service:{3f}:<session>``
    string: the session's record, or the tombstone that the sweep leaves (``records.py``); until the
    end of its retention
``session-service:{3f}:msg:<session>``
    list: its messages, oldest first (``messages.py``); as long as the session can last
``session-service:{3f}:kept:<session>``, ``session-service:{3f}:parties:<session>``
    list and string: the messages, and the agent and user, of a session that is over; for as long
    as conversations are retained
``session-service:{3f}:warn``
    sorted set: live sessions, by the time at which their warning is due
``session-service:{3f}:expire``
    sorted set: live sessions after their warning was due, by their deadline
``session-service:{3f}:forget``
    sorted set: expired sessions, by the end of their retention
``session-service:{3f}:unreadable``
    sorted set: unreadable sessions, by the time of the next check; the sweep moves them here from
    warn and expire when they are overdue for ten seconds
``session-service:{3f}:listing``
    sorted set, all of score 0: ``u<user><age><session>`` and ``a<agent><user><age><session>`` of
    each session until it is ended or the sweep acts on its expiry. The age is 2^48 - 1 less its
    creation in ms, as 6 bytes, the highest first: so the newest session of a user comes first
``session-service:{3f}:events``
    stream, the outbox: events of the shard's sessions, each in one field, ``event``
    (``records.py``)
``session-service:{3f}:trimmed``
    string: the past of the outbox: its epoch, when a node last saw it, how far it was trimmed, and
    the doubtful positions (lua/events/past.lua)
``session-service:{7a}:claim:<SHA-256 of an Idempotency-Key; its first two digits are the shard>``
    hash, for a day: the fingerprint of the ``request`` (SHA-256), its ``seed``, and if it has
    several steps the end of its ``lease``, and then the ``answer``: its response
``session-service:{3f}:idem:<name from the seed>:<number>``
    string, for a day: the reply of a script of a request with an Idempotency-Key, as JSON without
    the tail of the record, after the number of that tail, or 0 (lua/record_reply.lua)
``session-service:{3f}:tails:<session>``
    hash, for a day: the tails (agent, user, metadata) of the records in those replies, by number;
    for ``getOrCreate`` the name ends in ``<agent>:<user>`` in place of the session
``session-service:{3f}:used:<session>``
    string, for a day: how many requests with an Idempotency-Key the session had, at least; for
    ``getOrCreate`` as above
``session-service:{3f}:limit:user:<user>``, ``session-service:{7a}:limit:key:<id of an API key>``
    string, until it would be full: the bucket of a limit, as the time at which it is full again, in
    epoch microseconds (lua/limits/bucket.lua). That of an API key is in the shard of its id's hash
``session-service:{00}:probe``
    the key on which commands are tried, to see whether they are permitted (lua/probe.lua)
``session-service:{00}:meta``
    hash: the newest ``format`` that a node has written, and the data set's ``epoch``, 16 hex digits
``session-service:{00}:verified``
    hash: the ``evictions`` after which the indexes of sessions were verified (sessions/repairs.py);
    while a node verifies them, the ``node`` and ``until`` when the others leave that to it

``session-service:{00}:api-keys``
    hash, for a year after the last node has read it: API keys by id, ``1 <createdAt in ms>
    <expiresAt, or 0> <revokedAt, or 0> <end of the overlap, or 0> <SHA-256 of the key> <SHA-256 of
    the one before, or -> <JSON>``, where 1 is the format; ``version``, which changes with each
    change

The id of a webhook names the shard of its queue, as a session's id names its shard. A lane is a
session's events for one webhook, which are delivered one after the other.

``session-service:{00}:webhooks``
    hash: webhooks by id, ``<0|1: is enabled> <createdAt in ms> <JSON>``; after a rotation the end
    of the overlap, in ms, is before the JSON; ``version``, which changes with each change;
    ``settings``, a random mark of when the endpoints of the settings were registered
``session-service:{3f}:webhook:queue:<webhook>``
    sorted set, all of score 0: ``<session> <event>`` of each delivery, each lane in order
    (lua/webhooks/queue.lua)
``session-service:{3f}:webhook:bodies:<webhook>``
    hash: by event ``<failures> <queued at, ms> <last failure, or -> <event as in the outbox>``
``session-service:{3f}:webhook:due:<webhook>``
    sorted set: lanes, by the time at which their first event is to be delivered
``session-service:{3f}:webhook:leased:<webhook>``
    sorted set: lanes with a delivery in progress, by the time at which its lease ends
``session-service:{3f}:webhook:dead:<webhook>``
    sorted set: parked events, by the time at which they were parked
``session-service:{3f}:webhook:state:<webhook>``
    hash: by shard the last event that was queued or dropped; ``dropped``, ``failures`` and
    ``reviving``, counts (lua/webhooks/record_result.lua); ``clock``, when lanes were last claimed

A session that can be read is in exactly one of warn, expire and forget. All keys have a TTL; the
keys of a shard outlive the last of their entries that matters by a day.
"""

from collections.abc import Sequence
from typing import NamedTuple

from session_service.domain.ids import SHARDS, is_uuid, shard_of_user
from session_service.store.client.protocol import KeySet, bulk


class Kind(NamedTuple):
    """A kind of key: the part of its name after the shard, which an id may follow, and its type."""

    part: str
    type: str  # as TYPE names it; "any" for a key that only tries commands
    description: str  # for ``session-service show``
    has_secrets: bool = False

    @property
    def has_owner(self) -> bool:
        """Whether an id or another name follows the part."""
        return not self.part or self.part.endswith(":")


# The kinds above. Scripts use the names on the left, in capitals.
KINDS = {
    "session": Kind("", "string", "a session, or the tombstone of an expired one"),
    "messages": Kind("msg:", "list", "the messages of a session"),
    "retained": Kind("kept:", "list", "the messages of a session that is over"),
    "participants": Kind("parties:", "string", "the agent and user of a session that is over"),
    "warn": Kind("warn", "zset", "sessions, by the time at which their warning is due"),
    "expire": Kind("expire", "zset", "sessions that were warned of, by their deadline"),
    "forget": Kind("forget", "zset", "expired sessions, by the end of their retention"),
    "unreadable": Kind("unreadable", "zset", "unreadable sessions, by their next check"),
    "listing": Kind("listing", "zset", "the listing: each session by user and by agent"),
    "events": Kind("events", "stream", "the outbox: events of the shard's sessions"),
    "trimmed": Kind("trimmed", "string", "the past of the outbox"),
    "meta": Kind("meta", "hash", "the data set: its format and its epoch"),
    "verified": Kind("verified", "hash", "the evictions after which the indexes were verified"),
    "claim": Kind("claim:", "hash", "a claimed Idempotency-Key", has_secrets=True),
    "outcome": Kind("idem:", "string", "the reply to a request with an Idempotency-Key"),
    "tails": Kind("tails:", "hash", "agent, user and metadata of such replies, by number"),
    "used": Kind("used:", "string", "how many requests of a session had an Idempotency-Key"),
    "user_bucket": Kind("limit:user:", "string", "the bucket of a user's limit"),
    "key_bucket": Kind("limit:key:", "string", "the bucket of an API key's limit"),
    "probe": Kind("probe", "any", "a key on which commands are tried"),
    "webhooks": Kind("webhooks", "hash", "the webhooks, by id", has_secrets=True),
    "api_keys": Kind("api-keys", "hash", "the API keys, by id", has_secrets=True),
    "queue": Kind("webhook:queue:", "zset", "deliveries of a webhook, in the order of each lane"),
    "bodies": Kind("webhook:bodies:", "hash", "the events that a webhook is to deliver"),
    "due": Kind("webhook:due:", "zset", "lanes of a webhook, by their next delivery"),
    "leased": Kind("webhook:leased:", "zset", "lanes in delivery, by the end of their lease"),
    "dead": Kind("webhook:dead:", "zset", "parked events, by the time of parking"),
    "state": Kind("webhook:state:", "hash", "the progress of a webhook, and its counts"),
}
# Keys of one session or webhook: the text of its id follows.
_WITH_ID = ("session", "messages", "queue", "bodies", "due", "leased", "dead", "state")
_ID_CHARACTERS = 36


class KeyName(NamedTuple):
    """The parts of a key's name, e.g. ``KeyName("messages", "3f", "3f8a1c52-…")``."""

    kind: str  # of KINDS
    shard: str
    owner: str = ""  # the id of a session or webhook, or the name of a claim or a reply


class Keys:
    """Makes the keys of calls, under a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        # Packed keys, in pieces between which the id goes.
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

        A key of one session is its prefix then, e.g. ``session-service:{3f}:msg:``.
        """
        keys = self._of_shards.get((names, shard))
        if keys is None:
            keys = self._of_shards[names, shard] = self.of_shards(names, (shard,))
        return keys

    def of_shards(self, names: tuple[str, ...], shards: Sequence[str]) -> KeySet:
        """Return the keys of these names for each of some shards, one shard after the other."""
        return KeySet.of(shards[0], [self._name(name, shard) for shard in shards for name in names])

    def one(self, name: str, shard: str, of: str) -> KeySet:
        """Return one key of the shard, e.g. of ``one("claim", "7a", "7a51…")``."""
        return KeySet.of(shard, [self._name(name, shard) + of.encode()])

    def and_more(self, keys: KeySet, **more: str) -> KeySet:
        """Return keys and more keys of their shard: by name the end of each, e.g. an id."""
        added = [self._name(name, keys.shard) + of.encode() for name, of in more.items()]
        return KeySet.of(keys.shard, [*keys.names(), *added])

    def bucket(self, name: str, owner: str) -> KeySet:
        """Return the key of a limit's bucket, in the shard of its owner: a user or an API key."""
        return self.one(name, shard_of_user(owner), owner)

    def session_name(self, session_id: str) -> str:
        """Return the name of the key of a session, e.g. ``session-service:{3f}:3f8a1c52-…``."""
        return self._name("session", session_id[:2]).decode() + session_id

    def parse(self, name: str) -> KeyName | None:
        """Return the parts of a name, or None if no key of ours has it."""
        start, _, rest = name.partition("}:")
        prefix, _, shard = start.rpartition(":{")
        if prefix != self._prefix or shard not in SHARDS:
            return None
        if is_uuid(rest):
            return KeyName("session", shard, rest)
        for name_of_kind, kind in KINDS.items():
            owner = rest.removeprefix(kind.part)
            if kind.part and rest.startswith(kind.part) and bool(owner) == kind.has_owner:
                return KeyName(name_of_kind, shard, owner)
        return None

    def _name(self, name: str, shard: str) -> bytes:
        return f"{self._prefix}:{{{shard}}}:{KINDS[name].part}".encode()

    def _template(self, names: tuple[str, ...], shard: str) -> list[bytes]:
        packed = bulk(b"%d" % len(names))
        for name in names:
            start = self._name(name, shard)
            if name in _WITH_ID:
                packed += b"$%d\r\n%b\0\r\n" % (len(start) + _ID_CHARACTERS, start)
            else:
                packed += bulk(start)
        return packed.split(b"\0")
