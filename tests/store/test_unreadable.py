"""Records that are damaged, of another type or of a newer format: reported, and left alone."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from session_service.composition import Store
from session_service.domain.errors import RecordUnreadable
from session_service.domain.sessions import Session
from session_service.domain.timeouts import TimeoutChange
from session_service.store.records import pack_id
from session_service.store.sessions.deadlines import Deadlines
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import (
    BRIEF,
    HELLO,
    KEYS,
    SESSION_KEYS,
    another_node,
    create_session,
    new_session,
    new_uuid,
)
from tests.support.waiting import a_moment_later, wait_until

Damage = Callable[[Any, bytes], Awaitable[None]]
DAY = 86_400_000


def key_of(session: Session, name: str = "session") -> bytes:
    return KEYS.one(name, session.id[:2], session.id).names()[0]


def replace_record(change: Callable[[bytes], bytes]) -> Damage:
    """Return a damage that replaces a record with a changed one."""

    async def damage(redis: Any, key: bytes) -> None:
        await redis.set(key, change(await redis.get(key)), px=DAY)

    return damage


async def replace_with_list(redis: Any, key: bytes) -> None:
    await redis.delete(key)
    await redis.rpush(key, "x")
    await redis.pexpire(key, DAY)


DAMAGE: dict[str, Damage] = {
    "a list": replace_with_list,
    "empty": replace_record(lambda _: b""),
    "no record": replace_record(lambda _: b"\xff\x00garbage"),
    "cut in the metadata": replace_record(lambda record: record[:-1]),
    "cut in the user": replace_record(lambda record: record[:-20]),
    "cut in the numbers": replace_record(lambda record: record[:40]),
    "a newer format": replace_record(lambda record: b"3" + record[1:]),
    "format 1": replace_record(lambda record: b"1" + record[1:]),
    "version 0.1.0": replace_record(lambda record: record[2:-1]),
    "expired in version 0.1.0": replace_record(lambda _: b"expired"),
    "a tombstone that was cut": replace_record(lambda _: b"2 expired 17684730451"),
    "a tombstone without its owner": replace_record(lambda _: b"2 expired 1768473045123\n"),
    "a newer tombstone": replace_record(lambda _: b"3 expired 1768473045123\n"),
    "beyond all times": replace_record(lambda record: record.replace(b"2 1", b"2 9999999999", 1)),
}


def owner_of(session: Session) -> bytes:
    """The end of the record of an expired session."""
    return pack_id(session.agent_id) + pack_id(session.user_id) + b"\n"


@pytest.fixture(params=DAMAGE)
def damage(request: pytest.FixtureRequest) -> Damage:
    return DAMAGE[request.param]


async def everything(redis: Any, session: Session) -> list[Any]:
    """Return the stored record and messages of a session."""
    return [
        await redis.dump(key_of(session)),
        await redis.lrange(key_of(session, "messages"), 0, -1),
    ]


async def test_every_operation_says_so_and_changes_nothing(
    repository: SessionRepository, redis: Any, damage: Damage
) -> None:
    """Every operation on an unreadable session is answered 503, never 404 or 410."""
    session = await create_session(repository)
    await repository.send(session.id, HELLO)
    await damage(redis, key_of(session))
    before = await everything(redis, session)
    executor = (
        repository.get(session.id),
        repository.renew(session.id),
        repository.heartbeat(session.id),
        repository.change_timeout(session.id, TimeoutChange(auto_renew=False)),
        repository.change_metadata(session.id, b"{}"),
        repository.send(session.id, HELLO),
        repository.history(session.id, limit=1),
        repository.end(session.id),
    )
    for call in executor:
        with pytest.raises(RecordUnreadable):
            await call
    await repository.end_all(user_id=session.user_id)
    assert await everything(redis, session) == before


async def test_others_are_listed_and_ended_without_it(
    repository: SessionRepository, redis: Any, damage: Damage
) -> None:
    """A listing and a bulk end skip an unreadable session."""
    session, other = [await create_session(repository) for _ in range(2)]
    same_user = await create_session(repository, user_id=session.user_id)
    await damage(redis, key_of(session))
    listed = {each.id for each in (await repository.list_page(limit=9)).sessions}
    assert listed == {same_user.id, other.id}
    for by_activity in (False, True):
        page = await repository.list_page(limit=9, user_id=session.user_id, by_activity=by_activity)
        assert ([each.id for each in page.sessions], page.total) == ([same_user.id], 1)
    assert (await repository.end_all()).ended == 2


async def test_the_newest_that_can_be_read_is_found(
    repository: SessionRepository, redis: Any, damage: Damage
) -> None:
    """A search for the newest session passes over an unreadable session, and leaves it as it is."""
    new = new_session()
    older = await repository.create(new)
    await a_moment_later()
    newer = await repository.create(new)
    await damage(redis, key_of(newer))
    before = await redis.dump(key_of(newer))
    found, is_new = await repository.get_or_create(new, may_create=True)
    assert (found.id, is_new) == (older.id, False)
    assert await redis.dump(key_of(newer)) == before


async def test_the_sweep_leaves_it_alone(
    repository: SessionRepository, deadlines: Deadlines, redis: Any, damage: Damage
) -> None:
    """Neither sweep nor repair deletes it, and sessions that are due after it expire."""
    user = new_uuid()
    session, gone = [await create_session(repository, BRIEF, user_id=user) for _ in range(2)]
    await repository.send(session.id, HELLO)
    await damage(redis, key_of(session))
    await redis.delete(key_of(gone))
    before = await everything(redis, session)
    behind = [await create_session(repository, BRIEF, user_id=user) for _ in range(3)]

    async def are_swept() -> bool:
        await deadlines.sweep()
        return [await redis.get(key_of(each)) for each in behind] == [
            f"2 expired {each.expires_at} ".encode() + owner_of(each) for each in behind
        ]

    await wait_until(are_swept)
    assert (await deadlines.sweep()).repaired == 0
    assert await everything(redis, session) == before
    assert await redis.keys("*listing") != []  # the entries of the unreadable session


async def test_it_is_counted_by_every_node_and_logged_once(
    store: Store,
    deadlines: Deadlines,
    redis: Any,
    caplog: pytest.LogCaptureFixture,
    damage: Damage,
) -> None:
    """Every node counts an unreadable session once, whether a request, listing or sweep met it."""
    repository, another = (another_node(store).repository for _ in range(2))
    session = await create_session(repository)
    other = await create_session(repository)
    for each in (session, other):
        await damage(redis, key_of(each))

    async def are_counted() -> bool:
        return [(await node.count()).unreadable for node in (repository, another)] == [2, 2]

    for node in (repository, another):
        with pytest.raises(RecordUnreadable):
            await node.heartbeat(session.id)
        await node.list_page(limit=10)
    await wait_until(are_counted)
    for node in (another, repository):
        with pytest.raises(RecordUnreadable):
            await node.get(session.id)
    await deadlines.sweep()
    assert await are_counted()
    logged = [record.__dict__["session"] for record in caplog.records if "read" in record.message]
    assert sorted(logged) == sorted((session.id, other.id))


async def test_overdue_ones_are_set_aside_and_come_back(
    repository: SessionRepository,
    deadlines: Deadlines,
    redis: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Unreadable sessions are set aside after ten seconds, and expire once they are readable."""
    user = new_uuid()
    sessions = [await create_session(repository, BRIEF, user_id=user) for _ in range(40)]
    shard = sessions[0].id[:2]
    warn, aside = (KEYS.of_shard((name,), shard).names()[0] for name in ("warn", "unreadable"))
    for session in sessions:
        await DAMAGE["a newer format"](redis, key_of(session))
        await redis.zadd(warn, {pack_id(session.id): session.expires_at - 10_000})
    behind = await create_session(repository, BRIEF, user_id=user)

    async def is_swept() -> bool:
        await deadlines.sweep()
        return (await redis.get(key_of(behind)) or b"").startswith(b"2 expired ")

    await wait_until(is_swept)
    await wait_until(is_sweep_done(deadlines))
    assert (await redis.zcard(warn), (await repository.count()).unreadable) == (0, 40)
    assert len([record for record in caplog.records if "read" in record.message]) == 40
    for session in sessions:
        key = key_of(session)
        await redis.set(key, b"2" + (await redis.get(key))[1:], px=DAY)
        await redis.zadd(aside, {pack_id(session.id): 1})
    await wait_until(is_sweep_done(deadlines))
    counts = await repository.count()
    assert (counts.active, counts.expired, counts.unreadable) == (0, 41, 0)


def is_sweep_done(deadlines: Deadlines) -> Callable[[], Awaitable[bool]]:
    async def are_quiet() -> bool:
        return not (await deadlines.sweep()).shards_with_more

    return are_quiet


async def test_a_key_of_a_shard_of_another_type_changes_nothing(
    repository: SessionRepository, deadlines: Deadlines, redis: Any, index: str
) -> None:
    """A call that fails on a damaged key of its shard has no effect."""
    session = await create_session(repository)
    await repository.send(session.id, HELLO)
    key = KEYS.of_shard((index,), session.id[:2]).names()[0]
    await replace_with_list(redis, key)
    before = await everything(redis, session)
    executor = (
        lambda: create_session(repository, user_id=session.user_id),
        lambda: repository.end(session.id),
        lambda: repository.send(session.id, HELLO),
    )
    for call in executor:
        try:
            await call()
        except RecordUnreadable:
            assert await everything(redis, session) == before
            assert len(await redis.keys(SESSION_KEYS)) == 1
        else:  # this operation does not use the key
            return
    await deadlines.sweep()
    assert await everything(redis, session) == before


@pytest.fixture(params=["warn", "listing", "events"])
def index(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.parametrize("damaged", [b"", b"x", b"a b c", None])
async def test_a_kept_conversation_that_is_damaged(
    store: Store, redis: Any, damaged: bytes | None
) -> None:
    """A damaged kept conversation is unreadable, not missing."""
    node = another_node(store, history_minutes=1).repository
    session = await create_session(node)
    await node.end(session.id)
    key = key_of(session, "participants")
    if damaged is None:
        await replace_with_list(redis, key)
    else:
        await redis.set(key, damaged, px=DAY)
    with pytest.raises(RecordUnreadable):
        await node.retained_history(session.id, limit=1)


HEAD = b"1768473045123 u 0 0 " + bytes(16)  # of a message
DAMAGED_MESSAGES = {
    "empty": b"",
    "no message": b"x",
    "cut in the id": HEAD[:-1],
    "without a time": HEAD.replace(b"1768473045123", b""),
    "beyond all times": HEAD.replace(b"1768", b"999999", 1) + b"x",
    "of nobody": HEAD.replace(b"u", b"x") + b"x",
    "cut in the metadata": HEAD.replace(b"0 0", b"9 0") + b'{"a"',
    "of other metadata": HEAD.replace(b"0 0", b"2 0") + b"[]x",
    "cut in the attachments": HEAD.replace(b"0 0", b"0 9") + b'[{"a"',
    "of other attachments": HEAD.replace(b"0 0", b"0 2") + b"{}x",
    "not of characters": HEAD + b"\xff",
}


@pytest.mark.parametrize("damaged", DAMAGED_MESSAGES.values(), ids=DAMAGED_MESSAGES.keys())
async def test_a_message_that_is_damaged(
    repository: SessionRepository, redis: Any, damaged: bytes
) -> None:
    """A damaged message makes the pages that contain it unreadable, and no others."""
    session = await create_session(repository)
    await repository.send(session.id, HELLO)
    await redis.lpush(key_of(session, "messages"), damaged)
    with pytest.raises(RecordUnreadable):
        await repository.history(session.id, limit=2)
    (message,) = (await repository.history(session.id, limit=1)).messages
    assert message.content == HELLO.content


@pytest.mark.parametrize("name", ["empty", "no message", "without a time", "beyond all times"])
async def test_a_newest_message_without_a_time(
    store: Store, repository: SessionRepository, redis: Any, name: str
) -> None:
    """Nothing can be sent after a message without a time, and no page beside it be found."""
    node = another_node(store, history_minutes=1).repository
    session = await create_session(repository)
    await repository.send(session.id, HELLO)
    await redis.rpush(key_of(session, "messages"), DAMAGED_MESSAGES[name])
    before = await everything(redis, session)
    for call in (
        repository.send(session.id, HELLO),
        repository.history(session.id, limit=1),
        repository.history(session.id, limit=1, before=2),
        repository.history(session.id, limit=1, after=2),
    ):
        with pytest.raises(RecordUnreadable):
            await call
    assert await everything(redis, session) == before
    await node.end(session.id)
    with pytest.raises(RecordUnreadable):
        await node.retained_history(session.id, limit=1, after=2)
