"""Random interleavings of all operations on a few sessions, compared with the model.

A script is one atomic step, so an interleaving is an order in which calls reach the server. Orders
are drawn at random, many travel in one batch, and the server's clock, which comes with the replies,
gives the model the time of each call. Sessions last milliseconds, so they expire in between.
"""

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from redis import Redis

from session_service.domain.ids import SHARDS, new_id, new_message_id
from session_service.store.client.protocol import KeySet
from session_service.store.client.script import NO_ARGUMENTS, Script
from session_service.store.keys import Keys
from session_service.store.messages import pack_message, unpack_message
from session_service.store.records import (
    ID_LENGTH,
    listing_member,
    pack_id,
    unpack_id,
    unpack_session,
)
from session_service.store.scripts.conversations import HISTORY
from session_service.store.scripts.deadlines import SWEEP, SweepArguments
from session_service.store.scripts.sessions import (
    CREATE,
    END,
    END_ALL,
    GET,
    HEARTBEAT,
    METADATA,
    RENEW,
    SEND,
    TIMEOUT,
    CreateArguments,
    EndAllArguments,
    EndArguments,
    MetadataArguments,
    SendArguments,
    SessionArguments,
    TimeoutArguments,
    record_and_words,
)
from session_service.store.scripts.variants import retaining_history
from tests.model.model import ModelSession
from tests.support.factories import HELLO
from tests.support.scripts import every_script

AT_ONCE = 256  # one in each shard
SESSIONS = 2
STEPS = 8
KEYS = Keys("model")
OF_SHARD = ("warn", "expire", "forget", "listing", "events")
AGENT = str(UUID(int=1))
NAMES = ("end", "end all", "renew", "heartbeat", "send", "change", "merge", "get", "sweep")


class Durations(NamedTuple):
    """The retention of expired sessions, and of conversations (0: deleted), in milliseconds."""

    retention_ms: int
    history_ms: int


@dataclass
class Subject:
    """A session in the store and its model."""

    shard: str
    id: str
    user: str
    model: ModelSession | None = None
    timeouts: dict[str, int] = field(default_factory=dict)

    def keys(self, script: Script[Any, Any]) -> KeySet:
        return KEYS.of_session(script.keys, self.shard, self.id)


@dataclass
class Step:
    """One call of an interleaving."""

    name: str
    subject: Subject
    words: list[bytes]
    values: dict[str, Any] = field(default_factory=dict)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.proof)])
def test_every_interleaving_ends_as_the_model_does(valkey_url: str, count: int) -> None:
    """Every reply is the model's, no session revives, and no key or index entry is orphaned."""
    seed = int(os.environ.get("MODEL_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    print(f"MODEL_SEED={seed}")  # noqa: T201 - shown where it fails, to draw the same again
    chance = random.Random(seed)
    with Redis.from_url(valkey_url, protocol=2) as store:
        for script in every_script():
            store.script_load(script.source)
        done = 0
        while done < count:
            store.flushdb()
            subjects = [
                Subject(shard, new_id(shard, os.urandom), str(UUID(int=chance.getrandbits(128))))
                for shard in SHARDS
                for _ in range(SESSIONS)
            ]
            durations = Durations(chance.choice((1, 5, 60_000)), chance.choice((0, 60_000)))
            run(store, interleaved(chance, subjects, durations), durations)
            check(store, subjects, durations)
            done += AT_ONCE


def interleaved(chance: random.Random, subjects: list[Subject], durations: Durations) -> list[Step]:
    """Create all sessions, then return each shard's calls in a random order."""
    steps = [creation(chance, subject, durations) for subject in subjects]
    for _ in range(STEPS):
        steps.extend(
            drawn(chance, chance.choice(subjects[first : first + SESSIONS]), durations)
            for first in range(0, len(subjects), SESSIONS)
        )
    return steps


def creation(chance: random.Random, subject: Subject, durations: Durations) -> Step:
    timeout = chance.choice((3, 10, 30, 100_000))
    values = {
        "timeout": timeout,
        "duration": timeout * chance.choice((1, 1, 2, 10)),
        "warning": chance.choice((1, timeout // 2, timeout)),
        "auto_renew": chance.random() < 0.7,
    }
    arguments = CreateArguments(
        retention_ms=durations.retention_ms,
        session_id=pack_id(subject.id),
        timeout_ms=values["timeout"],
        max_duration_ms=values["duration"],
        warning_ms=values["warning"],
        auto_renew=bool(values["auto_renew"]),
        tail=pack_id(AGENT) + pack_id(subject.user) + b"{}\n",
        max_sessions=0,
    )
    return Step("create", subject, CREATE.words(subject.keys(CREATE), arguments), values)


def drawn(chance: random.Random, subject: Subject, durations: Durations) -> Step:
    name = chance.choice((*NAMES, "heartbeat"))
    if name == "change":
        names = ("timeout", "duration", "warning", "auto_renew")
        values: dict[str, Any] = {
            n: chance.choice((1, 5, 20, 50, 200_000)) for n in names if chance.random() < 0.4
        }
        if "auto_renew" in values:
            values["auto_renew"] = chance.random() < 0.5
        change = TimeoutArguments(
            retention_ms=durations.retention_ms,
            session_id=pack_id(subject.id),
            viewer=None,
            timeout_ms=values.get("timeout"),
            max_duration_ms=values.get("duration"),
            warning_ms=values.get("warning"),
            auto_renew=values.get("auto_renew"),
        )
        return Step(name, subject, TIMEOUT.words(subject.keys(TIMEOUT), change), values)
    if name == "merge":
        values = {"patch": {n: chance.choice((None, 1, [], {"a": 0})) for n in ("", "a", "}")}}
        patch = msgspec.json.encode(values["patch"])
        merging = MetadataArguments(durations.retention_ms, pack_id(subject.id), None, patch)
        return Step(name, subject, METADATA.words(subject.keys(METADATA), merging), values)
    if name == "send":
        message_id = new_message_id(os.urandom)
        message = SendArguments(
            retention_ms=durations.retention_ms,
            session_id=pack_id(subject.id),
            viewer=None,
            message_id=message_id,
            author_id=None,
            may_be_agent=True,
            message=pack_message(message_id, HELLO),
            max_messages=0,
            fits_only=None,
            content_bytes=None,
        )
        return Step(name, subject, SEND.words(subject.keys(SEND), message))
    if name == "get":
        return Step(name, subject, GET.words(subject.keys(GET), NO_ARGUMENTS))
    if name == "sweep":
        return Step(name, subject, sweep(subject.shard, durations))
    if name == "end all":
        return Step(name, subject, end_all(subject, durations))
    arguments = SessionArguments(durations.retention_ms, pack_id(subject.id), viewer=None)
    if name == "end":
        end = retaining_history(END, durations.history_ms)
        ending = EndArguments(durations.retention_ms, pack_id(subject.id), viewer=None, by=None)
        return Step(name, subject, end.words(subject.keys(end), ending))
    script = {"renew": RENEW, "heartbeat": HEARTBEAT}[name]
    return Step(name, subject, script.words(subject.keys(script), arguments))


def run(store: Any, steps: list[Step], durations: Durations) -> None:
    """Send all steps at once, and apply each reply to the model."""
    pipe = store.pipeline(transaction=False)
    for step in steps:
        pipe.execute_command("TIME")
        pipe.execute_command(*step.words)
    replies = pipe.execute()
    clocks = [seconds * 1000 + micros // 1000 for seconds, micros in replies[::2]]
    clocks.append(clocks[-1] + 1000)
    for n, (step, reply) in enumerate(zip(steps, replies[1::2], strict=True)):
        follow(step, reply, clocks[n], clocks[n + 1], durations.retention_ms)


def sweep(shard: str, durations: Durations) -> list[bytes]:
    script = retaining_history(SWEEP, durations.history_ms)
    arguments = SweepArguments(durations.retention_ms, limit=100)
    return script.words(KEYS.of_shard(script.keys, shard), arguments)


def end_all(subject: Subject, durations: Durations) -> list[bytes]:
    """End the sessions of the subject's user in the model, whenever they were created."""
    script = retaining_history(END_ALL, durations.history_ms)
    start = b"u" + pack_id(subject.user)
    arguments = EndAllArguments(start, after=b"", last_created=1 << 53, limit=10, by=None)
    return script.words(KEYS.of_shard(script.keys, subject.shard), arguments)


def follow(step: Step, reply: Any, earliest: int, latest: int, retention: int) -> None:
    """Check a reply, and apply the same operation to the model at the time of the reply."""
    subject, model = step.subject, step.subject.model
    if step.name == "create":
        subject.model = ModelSession(created=reply, retention=retention, **step.values)
        return
    assert model is not None
    if step.name == "sweep":
        return
    if step.name == "end":  # the reply is the count of DEL, and its time is uncertain
        possible = {model.state(earliest) == "live", model.state(latest) == "live"}
        assert bool(reply) in possible, (step, model, earliest, latest)
        model.ended = model.ended or bool(reply)
        return
    if step.name == "end all":
        now, ended, position = reply
        assert (ended, position) == (int(model.end(now)), b"")
        return
    if step.name == "get":
        now, record = GET.reply(reply)
        state = "missing"
        if record is not None and record.startswith(b"2 expired "):
            state = "expired"
        elif record is not None:  # Redis may keep it for longer than its retention
            expires = unpack_session(subject.id, record, now).expires_at
            state = "live" if expires > now else "expired" if expires + retention > now else state
        assert state == model.state(now) or is_forgotten(model, state, now)
        return
    if reply is None or b"\n" not in reply:  # the reply has no time
        state = "expired" if reply else "missing"
        states = {model.state(now) for now in range(earliest, latest + 1)}
        assert state in states or is_forgotten(model, state, earliest), (step, model)
        return
    record, more = record_and_words(reply)
    if step.name in ("change", "merge"):
        now, *why = more
        expected = why[0].decode() if why else "live"
        assert getattr(model, step.name)(int(now), **step.values) == expected
    elif more == [b"exhausted"]:
        now = earliest
        assert model.renew(now) == "exhausted"
    else:  # the time of the activity
        now = unpack_session(subject.id, record).last_activity
        before = len(model.messages)
        assert getattr(model, step.name)(now) == "live"
        if step.name == "send":
            assert more[:2] == [b"%d" % model.messages[before], b"user"]
    assert_same(subject, record)


def is_forgotten(model: ModelSession, state: str, now: int) -> bool:
    """Return whether a session is gone; the server deletes it at its deadline or a ms later."""
    return {state, model.state(now)} == {"missing", "expired"} and (
        abs(now - model.expires - model.retention) <= 1
    )


def assert_same(subject: Subject, record: bytes) -> None:
    """Check that a record has the values of the model."""
    model = subject.model
    assert model is not None
    session = unpack_session(subject.id, record)
    assert (
        session.created_at,
        session.last_activity,
        session.last_renewal,
        session.renewal_count,
        session.expires_at,
        session.timeout.auto_renew,
        session.timeout.warning_ms,
        msgspec.json.decode(session.metadata),
    ) == (
        model.created,
        model.active,
        model.renewed,
        model.renewals,
        model.expires,
        model.auto_renew,
        model.warning,
        model.metadata,
    )


def check(store: Any, subjects: list[Subject], durations: Durations) -> None:
    """Sweep everything that is due, then compare all keys with the model."""
    by_shard: dict[str, list[Subject]] = {}
    for subject in subjects:
        by_shard.setdefault(subject.shard, []).append(subject)
    pipe = store.pipeline(transaction=True)  # nothing expires between sweep and reading
    for shard in SHARDS:
        pipe.execute_command(*sweep(shard, durations))
    pipe.execute_command("TIME")
    for shard, in_shard in by_shard.items():
        *deadlines, listing, events = KEYS.of_shard(OF_SHARD, shard).names()
        for index in deadlines:
            pipe.zrange(index, 0, -1, withscores=True)
        pipe.zrange(listing, 0, -1)
        pipe.xrange(events)
        for subject in in_shard:
            session_key, messages_key = subject.keys(HISTORY).names()
            pipe.get(session_key)
            pipe.lrange(messages_key, 0, -1)
            pipe.get(KEYS.one("participants", shard, subject.id).names()[0])
            pipe.lrange(KEYS.one("retained", shard, subject.id).names()[0], 0, -1)
    (seconds, micros), *found = pipe.execute()[len(SHARDS) :]
    assert [key for key in store.scan_iter(count=1000) if store.pttl(key) == -1] == []
    now = seconds * 1000 + micros // 1000
    found_iterator = iter(found)
    for in_shard in by_shard.values():
        check_shard(in_shard, now, found_iterator, durations)


def check_shard(in_shard: list[Subject], now: int, found: Any, durations: Durations) -> None:
    """Check that in a shard each index entry has its session, and each session its entries."""
    warn, expire, forget = ({unpack_id(i): score for i, score in next(found)} for _ in range(3))
    listing = set(next(found))
    recorded = (fields[b"event"].partition(b" ") for _, fields in next(found))
    events = Counter((unpack_id(ids[:ID_LENGTH]), kind.decode()) for kind, _, ids in recorded)
    listed = set()
    for subject in in_shard:
        model, record, entries = subject.model, next(found), next(found)
        outlasting = next(found), created(next(found))
        assert model is not None
        if record and not record.startswith(b"2 expired "):  # live, or expired since the sweep
            assert model.state(now) == "live" or now - model.expires < 1000
            assert_same(subject, record)
            listed.add(subject.id)
            assert created(entries) == model.messages
            assert outlasting == (None, [])
            assert (subject.id in warn) + (subject.id in expire) == 1
            assert warn.get(subject.id, 0) <= model.expires - model.warning
            assert expire.get(subject.id, model.expires) == model.expires
            session = unpack_session(subject.id, record)
            assert {listing_member(kind, session) for kind in (b"u", b"a")} <= listing
        else:
            assert model.state(now) != "live"
            assert entries == []
            announced = events[subject.id, "ended"], events[subject.id, "expired"]
            assert announced == ((1, 0) if model.ended else (0, 1))
            parties = pack_id(AGENT) + pack_id(subject.user)
            assert outlasting == ((parties, model.messages) if durations.history_ms else (None, []))
        assert events[subject.id, "created"] == 1
        assert events[subject.id, "message"] == len(model.messages)
        assert events[subject.id, "renewed"] == model.announced
    assert len(listing) == 2 * len(listed)
    assert {unpack_id(member[-ID_LENGTH:]) for member in listing} == listed
    assert set(warn) | set(expire) == listed
    assert not set(forget) & listed


def created(elements: list[bytes]) -> list[int]:
    """Return the creation times of the messages of a conversation."""
    return [unpack_message(element, "", "").created_at for element in elements]
