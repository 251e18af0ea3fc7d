"""``session-service show`` decodes a key of every kind (store/keys.py)."""

import os
import re
from collections import defaultdict
from typing import Any

import pytest

from session_service.composition import Store
from session_service.domain.credentials import Permission
from session_service.domain.errors import RecordUnreadable
from session_service.domain.events import EventFilter, EventId
from session_service.domain.messages import NewMessage
from session_service.domain.rates import RateLimit
from session_service.domain.sessions import Session
from session_service.domain.signing import new_secret
from session_service.domain.timeouts import TimeoutConfig
from session_service.domain.webhooks import Target, WebhookPolicy
from session_service.process.show import describe
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.store.events.consumer import Entry
from session_service.store.inspection.stored import read_key
from session_service.store.keys import KINDS
from session_service.store.limits.failures import Failures
from session_service.store.limits.leases import KeyLimit
from session_service.store.limits.users import UserLimit
from session_service.store.scripts.repairs import CLAIM_VERIFICATION, ClaimVerificationArguments
from session_service.store.sessions.scope import Scope
from tests.support.factories import (
    BRIEF,
    HELLO,
    HOUR_MS,
    ID,
    KEYS,
    create_session,
    new_session,
    new_uuid,
    own_key,
    shard_key,
)
from tests.support.waiting import wait_until

SECRET = new_secret(os.urandom)
WARNED = TimeoutConfig(HOUR_MS, auto_renew=True, max_duration_ms=HOUR_MS, warning_ms=HOUR_MS - 1)

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
EVENT = rf"{TIME}  \d+-[0-9a-f]{{2}}-\d+  \w+  session {UUID}  user {UUID}  agent {UUID}"
LANE = rf"{TIME}  session {UUID}"

# The lines of entries of each kind of key, in any order.
LINES = {
    "session": [
        rf"agent          {UUID}",
        rf"user           {UUID}",
        rf"created        {TIME}",
        rf"last activity  {TIME}",
        rf"last renewal   {TIME}",
        r"renewals       \d+",
        rf"expires        {TIME}",
        r"idle timeout   (0:00:00\.030000|1:00:00)",
        r"at most        [12]:00:00",
        r"warning        (0:00:01|0:59:59\.999000) before it expires",
        r"auto-renew     yes",
        r'metadata       {("topic":"billing")?}',
        rf"expired        {TIME}",
        r"unreadable: b'2 17684'",
    ],
    "messages": [
        rf'{TIME}  user   {UUID}  "Hello"',
        rf'{TIME}  agent  {UUID}  "Hi\\n"  {{"model":"x"}}  \[{{"type":"image"}}\]',
    ],
    "retained": [rf'{TIME}  user   {UUID}  "Hello"'],
    "participants": [rf"agent  {UUID}", rf"user   {UUID}"],
    "warn": [LANE],
    "expire": [LANE],
    "forget": [LANE],
    "unreadable": [LANE],
    "listing": [
        rf"by user {UUID}  {TIME}  session {UUID}",
        rf"by agent {UUID}  user {UUID}  {TIME}  session {UUID}",
    ],
    "events": [rf"{EVENT}(  {{.*}})?"],
    "trimmed": [r"epoch +[\d.]+", rf"last seen +{TIME}", rf"complete since +{TIME}"],
    "meta": [r"epoch  [0-9a-f]{16}", r"format  \d"],
    "verified": [r"evictions  run:7", r"node       node", rf"until      {TIME}"],
    "claim": [
        r"request  request",
        r"seed     replies are in keys that start with idem:[0-9a-f]{32}:",
        rf"lease    until {TIME}",
        r'answer   201 {"webhookId":"1","secret":"\*\*\*","note":"secret"}',
    ],
    "outcome": [r"tail   (\d+|none)", r"reply  \[.*\]"],
    "tails": [rf"1  agent {UUID}  user {UUID}  {{.*}}"],
    "used": [r"1"],
    "user_bucket": [rf"full again  {TIME}"],
    "key_bucket": [rf"full again  {TIME}"],
    "probe": [r"b'x'"],
    "webhooks": [
        rf"{UUID}  enabled  https://hooks\.example/",
        rf"  created   {TIME}",
        r"  secret    \*\*\*",
        r'  events    {"types":\["ended"\]}',
        rf"  previous  \*\*\* until {TIME}",
        r"version  .*",
    ],
    "api_keys": [
        r"[0-9a-z]{8}  billing",
        rf"  created   {TIME}",
        rf"  expires   {TIME}",
        rf"  revoked   {TIME}",
        r"  hash      \*\*\*",
        rf"  previous  \*\*\* until {TIME}",
        r"  scopes    messages:read, sessions:read",
        rf"  agents    ({UUID}|all)",
        r"version  .*",
    ],
    "queue": [rf"session {UUID}  event \d+-[0-9a-f]{{2}}-\d+"],
    "bodies": [
        rf"{EVENT}.*",
        rf"  queued {TIME}; of the attempts none failed",
        rf"  queued {TIME}; of the attempts 1 failed, the last with HTTP_503",
    ],
    "due": [LANE],
    "leased": [LANE],
    "dead": [rf"{TIME}  event \d+-[0-9a-f]{{2}}-\d+"],
    "state": [
        r"shard [0-9a-f]{2}   event \d+-[0-9a-f]{2}-\d+",
        r"failures   1",
        rf"clock      {TIME}",
    ],
}


@pytest.fixture
def history_ms() -> int:
    """Conversations are kept, so that there are keys of some."""
    return 60_000


@pytest.fixture
def webhook_policy() -> WebhookPolicy:
    """A delivery is parked when it fails for the first time."""
    return WebhookPolicy(retry_ms=0)


@pytest.fixture
async def filled(store: Store, redis: Any) -> Any:
    """A store with a key of every kind."""
    await store.data_set.read()
    await store.outbox.begin_pasts(["3f"])
    session = await _converse(store)
    over = await create_session(store.repository, BRIEF)
    await store.repository.send(over.id, HELLO)
    warned = await create_session(store.repository, WARNED)
    await _sweep(store, redis, over, warned)
    damaged = await create_session(store.repository)
    await redis.set(own_key("session", damaged.id), "2 17684", px=60_000)
    await _see_damage(store, damaged)
    await _repeat_requests(store)
    await _queue(store, redis, session, warned)
    await _make_api_keys(store)
    await redis.hset(shard_key("verified", "00"), "evictions", "run:7")
    keys = KEYS.of_shard(CLAIM_VERIFICATION.keys, "00")
    await store.executor.run(CLAIM_VERIFICATION, keys, ClaimVerificationArguments("node", 1000))
    await redis.set(shard_key("probe", "00"), "x", px=60_000)
    limit, failures = RateLimit(10, 60), Failures()
    await UserLimit(KEYS, limit, failures).charging(store.executor, ID).settle()
    await KeyLimit(store.executor, KEYS, limit, failures).charge(ID)
    return redis


async def _converse(store: Store) -> Session:
    """Make a live session with two messages."""
    session = await create_session(store.repository, metadata=b'{"topic":"billing"}')
    await store.repository.send(session.id, HELLO)
    reply = NewMessage("Hi\n", session.agent_id, b'{"model":"x"}', b'[{"type":"image"}]')
    await store.repository.send(session.id, reply)
    return session


async def _sweep(store: Store, redis: Any, over: Session, warned: Session) -> None:
    """Wait until a session has expired, and another one was warned of."""

    async def is_done() -> bool:
        await store.deadlines.sweep()
        forget, expire = shard_key("forget", over.id), shard_key("expire", warned.id)
        return bool(await redis.zcard(forget)) and bool(await redis.zcard(expire))

    await wait_until(is_done)


async def _see_damage(store: Store, damaged: Session) -> None:
    with pytest.raises(RecordUnreadable):
        await store.repository.get(damaged.id)


async def _repeat_requests(store: Store) -> None:
    """Make requests with an Idempotency-Key, in one step and in several."""
    keys = store.repository.idempotency_keys
    once = await keys.claim("one step", "request")
    repeated = store.repository.scoped(Scope(once, once.random))
    session = await repeated.create(new_session())
    again = await keys.claim("another step", "request")
    await store.repository.scoped(Scope(again, again.random)).heartbeat(session.id)
    claim = await keys.claim_with_lease("several steps", "request")
    answer = f'{{"webhookId":"1","secret":"{SECRET}","note":"secret"}}'
    await keys.record(claim, f"[201,[]]\n{answer}".encode())
    await keys.claim_with_lease("under way", "request")


async def _queue(store: Store, redis: Any, session: Session, other: Session) -> None:
    """Register a webhook with two secrets; park one delivery of a session, and claim the next."""
    selected = EventFilter(types=frozenset({"ended"}))
    webhook = await store.webhooks.add(Target("https://hooks.example/", SECRET, selected))
    await store.webhooks.rotate(webhook.id, new_secret(os.urandom), 60_000)
    queues = store.webhooks.queues
    await queues.enqueue(webhook.id, await _events(redis, session))
    (delivery,) = (await queues.claim(webhook.id, 1)).deliveries
    assert await queues.record_result(webhook.id, delivery, "HTTP_503") == "dead"
    await queues.claim(webhook.id, 1)
    await queues.enqueue(webhook.id, await _events(redis, other))


async def _make_api_keys(store: Store) -> None:
    """Make a key that is bound to an agent, expires and has another secret, and a revoked one."""
    registry = ApiKeyRegistry(store.executor, store.keys, store.quarantine)
    permissions = frozenset((Permission.SESSIONS_READ, Permission.MESSAGES_READ))
    added = await registry.add("billing", permissions, frozenset({new_uuid()}), HOUR_MS)
    assert added is not None
    await registry.rotate(added[0].id, HOUR_MS)
    another = await registry.add("billing", permissions)
    assert another is not None
    await registry.revoke(another[0].id)


async def _events(redis: Any, session: Session) -> list[Entry]:
    """Return the events of the shard of a session."""
    shard = session.id[:2]
    entries = []
    for entry_id, fields in await redis.xrange(shard_key("events", shard)):
        ms, number = map(int, entry_id.split(b"-"))
        entries.append(Entry(EventId(ms, shard, number), fields[b"event"]))
    return entries


async def _shown(redis: Any, name: str, limit: int = 20) -> list[str]:
    """Return the lines that are printed of a key."""
    stored = await read_key(redis, name, limit)
    assert stored is not None
    return list(describe(name, KEYS.parse(name), stored))


async def test_every_kind_of_key_is_decoded(filled: Any) -> None:
    """A key of each kind is printed with its kind, its TTL and its entries, ids as text."""
    shown: dict[str, list[str]] = defaultdict(list)
    for name in [name.decode() async for name in filled.scan_iter()]:
        key = KEYS.parse(name)
        assert key is not None, name
        first, kind, about, blank, *entries = await _shown(filled, name)
        assert (first, kind, blank) == (name, KINDS[key.kind].description, "")
        assert re.fullmatch(r"\w+, [\d,]+ (bytes?|entry|entries), for another [\w ,:]+", about)
        shown[key.kind] += entries
    assert set(LINES) == set(shown) == set(KINDS)
    for kind, entries in shown.items():
        for line in entries:
            assert any(re.fullmatch(each, line) for each in LINES[kind]), (kind, line)
        for each in LINES[kind]:
            assert any(re.fullmatch(each, line) for line in entries), (kind, each, entries)


async def test_no_secret_is_shown(filled: Any) -> None:
    """Neither a webhook's secret nor its previous one is printed, even if its record is damaged."""
    registry = shard_key("webhooks", "00")
    secrets = set()
    for name, value in (await filled.hgetall(registry)).items():
        secrets |= set(re.findall(r"whsec_[^\"]+", value.decode()))
        if b"whsec_" in value:
            await filled.hset(registry, f"{name.decode()}-damaged", value[:-1])
    assert SECRET in secrets
    assert len(secrets) == 2
    claims = [name async for name in filled.scan_iter("*:claim:*")]
    for name in claims:
        if answer := await filled.hget(name, "answer"):
            await filled.hset(name, "answer", answer[2:])
    lines = [
        line async for each in filled.scan_iter() for line in await _shown(filled, each.decode())
    ]
    assert "unreadable" in lines
    assert not [line for line in lines for secret in secrets if secret in line]


async def test_no_hash_of_an_api_key_is_shown(filled: Any) -> None:
    """Neither the hash of a key nor that of the one before is printed, even of damaged records."""
    registry = shard_key("api_keys", "00")
    hashes = set()
    for name, value in (await filled.hgetall(registry)).items():
        hashes |= set(re.findall(r"[0-9a-f]{64}", value.decode()))
        if name != b"version":
            await filled.hset(registry, f"{name.decode()}-damaged", value)
    assert len(hashes) == 3
    lines = await _shown(filled, registry)
    assert lines.count("unreadable") == 2
    assert not [line for line in lines for each in hashes if each in line]


async def test_showing_changes_nothing(filled: Any) -> None:
    """No key is written."""
    names = sorted([name async for name in filled.scan_iter()])
    before = [await filled.dump(name) for name in names]
    for name in names:
        await _shown(filled, name.decode())
    assert [await filled.dump(name) for name in names] == before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_type_is_named(redis: Any, kind: str) -> None:
    """A key of another type than the schema's is shown as it is, with a line that says so."""
    name = own_key(kind, ID) if KINDS[kind].has_owner else shard_key(kind, "3f")
    await redis.sadd(name, "\x1b[2J")
    await redis.pexpire(name, 60_900)
    _, _, *damage, about, _blank, entry = await _shown(redis, name)
    assert damage == [
        f"damaged: it should be a {KINDS[kind].type}, so another program has written it"
    ] * (kind != "probe")
    assert about == "set, 1 entry, for another 0:01:00"
    assert entry == r"b'\x1b[2J'"


async def test_garbage_is_shown_as_it_is(filled: Any) -> None:
    """An entry that cannot be decoded is shown as bytes, and the others are decoded."""
    warn = await anext(filled.scan_iter("*:warn"))
    before = await _shown(filled, warn.decode())
    await filled.zadd(warn, {b"garbage": 1e300})
    after = await _shown(filled, warn.decode())
    assert after[3:] == [*before[3:], "unreadable: (b'garbage', 1e+300)"]


async def test_entries_are_limited(store: Store, redis: Any) -> None:
    """Of a conversation the newest messages are shown, at most as many as the limit."""
    session = await create_session(store.repository)
    for n in range(5):
        await store.repository.send(session.id, NewMessage(f"{n}", None, b"{}", None))
    _, _, about, _, *entries = await _shown(redis, own_key("messages", session.id), limit=2)
    assert about.startswith("list, 5 entries, 2 of them below, for another ")
    assert [entry[-3:] for entry in entries] == ['"4"', '"3"']
