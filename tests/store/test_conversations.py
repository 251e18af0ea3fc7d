"""Long conversations: their pages, their end, and the memory of messages in the store."""

import random
from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

import pytest

from session_service.composition import Store
from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.ids import new_message_id
from session_service.domain.messages import History, Message, NewMessage
from session_service.domain.sessions import Session
from session_service.store.inspection.dataset import DEFAULT_PREFIX
from session_service.store.keys import Keys
from session_service.store.messages import pack_message, unpack_message
from tests.support.factories import HOUR_MS, another_node, create_session, own_key
from tests.support.tools import needs
from tests.support.waiting import wait_until

FIRST_MS = 1_768_473_045_123
MESSAGES = 2000
QUERIES = 100
OF_200 = NewMessage("x" * 200, None, b"{}", None)


class Conversation(NamedTuple):
    """The messages of a conversation, oldest first, and their sizes in the store."""

    messages: list[Message]
    sizes: list[int]

    def page(self, limit: int, before: int | None, after: int | None) -> History:
        """Return the page that the contract describes ("Messages")."""
        times = [message.created_at for message in self.messages]
        first = 0 if after is None else bisect_right(times, after)
        last = len(times) if before is None else bisect_left(times, before)
        is_forward = after is not None and before is None
        places = range(first, last) if is_forward else range(last - 1, first - 1, -1)
        size, taken = 0, list[int]()
        for place in places[:limit]:
            size += self.sizes[place]
            if size > PAGE_BYTES and taken:
                break
            taken.append(place)
        newest_first = [self.messages[place] for place in sorted(taken, reverse=True)]
        return History(newest_first, has_more=len(taken) < len(places))


@pytest.fixture
def chance() -> random.Random:
    """Random numbers; the output of a failed test has their seed."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails, to draw the same again
    return random.Random(seed)


async def converse(redis: Any, session: Session, chance: random.Random) -> Conversation:
    """Store a long conversation: bursts and pauses, most messages short, a few of 100 KB."""
    key, created_at = own_key("messages", session.id), FIRST_MS
    elements, messages = list[bytes](), list[Message]()
    for _ in range(MESSAGES):
        created_at += chance.choice((1, 1, 2, 1000, 3_600_000))
        by = chance.choice((b"u", b"a"))
        content = "é" * chance.choice((*range(1, 50), 50_000))
        metadata = chance.choice((b"{}", b'{"a":1}'))
        attachments = chance.choice((None, None, b'[{"type":"image","url":"x"}]'))
        new = NewMessage(content, None, metadata, attachments)
        packed = pack_message(new_message_id(chance.randbytes), new)
        elements.append(b"%d %b %b" % (created_at, by, packed))
        messages.append(unpack_message(elements[-1], session.agent_id, session.user_id))
        assert (messages[-1].content, messages[-1].attachments) == (content, attachments)
        if len(elements) % 100 == 0:
            await redis.rpush(key, *elements[-100:])
    await redis.pexpire(key, HOUR_MS)
    return Conversation(messages, list(map(len, elements)))


def drawn(chance: random.Random, conversation: Conversation) -> tuple[int, int | None, int | None]:
    """Return limit, before and after of a page; often the range has about as many messages."""
    limit = chance.choice((1, 19, 20, 21, 50, 100))
    last = chance.choice((*range(120), *range(MESSAGES), MESSAGES - 1))
    first = last - limit + chance.choice((-1, 0, 0, 1, -500, 500))
    before, after = (
        conversation.messages[max(0, min(place, MESSAGES - 1))].created_at
        + chance.choice((-1, 0, 0, 0, 1, 500))
        for place in (last, first - 1)
    )
    return (
        limit,
        chance.choice((before, before, before, None, 0, -5, FIRST_MS * 2)),
        chance.choice((after, after, after, None, 0, -5, FIRST_MS * 2)),
    )


@pytest.mark.parametrize("is_over", [False, True])
async def test_any_page_of_a_long_conversation(
    store: Store, redis: Any, chance: random.Random, *, is_over: bool
) -> None:
    """A page has exactly the messages of its range that fit, of a session that is alive or over."""
    repository = another_node(store, history_minutes=60).repository
    session = await create_session(repository)
    conversation = await converse(redis, session, chance)
    if is_over:
        await repository.end(session.id)
    read = repository.retained_history if is_over else repository.history
    for _ in range(QUERIES):
        limit, before, after = drawn(chance, conversation)
        page = await read(session.id, limit=limit, before=before, after=after)
        assert page == conversation.page(limit, before, after), (limit, before, after)


class TestOnAServer:
    """Properties of real servers, which fakeredis does not have."""

    @pytest.fixture(params=["valkey", pytest.param("redis", marks=needs("redis-server"))])
    def store_url(self, request: pytest.FixtureRequest) -> str:
        url: str = request.getfixturevalue(f"{request.param}_url")
        return url

    @pytest.mark.parametrize(("count", "most"), [(1, 700), (10, 3300), (20, 6500)])
    async def test_the_memory_of_messages(
        self, store: Store, redis: Any, count: int, most: int
    ) -> None:
        """Messages of 200 characters take at most so many bytes."""
        repository = another_node(store, key_prefix=DEFAULT_PREFIX).repository
        session = await create_session(repository)
        for _ in range(count):
            await repository.send(session.id, OF_200)
        (key,) = Keys(DEFAULT_PREFIX).one("messages", session.id[:2], session.id).names()
        assert await redis.memory_usage(key, samples=0) <= most

    async def test_a_long_conversation_ends_in_the_background(
        self, store: Store, redis: Any
    ) -> None:
        """The server frees a long conversation in a thread of its own, not in the script."""
        session = await create_session(store.repository)
        await store.repository.send(session.id, OF_200)
        key = own_key("messages", session.id)
        message = await redis.lindex(key, 0)
        await redis.rpush(key, *[message] * 10_000)

        async def freed() -> int:
            return int((await redis.info("memory"))["lazyfreed_objects"])

        before = await freed()

        async def is_freed() -> bool:
            return await freed() > before

        await store.repository.end(session.id)
        assert await redis.exists(key) == 0
        await wait_until(is_freed)
