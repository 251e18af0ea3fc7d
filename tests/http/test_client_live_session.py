"""Sessions that the Python client keeps alive during a block: ``service.session(…)``."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.proxy import proxy_to
from session_service.client import (
    ConnectionFailed,
    LiveSession,
    SessionExpired,
    SessionNotFound,
    SessionService,
    TimeoutSettings,
)
from session_service.composition import Store
from session_service.domain.timeouts import TimeoutPolicy
from tests.support.access import AGENT, ANN
from tests.support.api import Client
from tests.support.service import ServiceUnderTest, app_state
from tests.support.waiting import wait_until

# 1.2 s, which are all within the threshold; heartbeats come every 0.12 s.
KEPT = TimeoutSettings(timeout_minutes=0.02, warning_threshold_minutes=0.02)
UNKEPT = TimeoutSettings(timeout_minutes=0.02, warning_threshold_minutes=0.02, auto_renew=False)


@pytest.fixture
def store_url() -> str:
    return "memory://"  # the stores do not differ here


@pytest.fixture
def policy() -> TimeoutPolicy:
    return TimeoutPolicy(min_timeout=0.0005)


@pytest.fixture
async def caller(client: Client) -> AsyncIterator[SessionService]:
    async with SessionService(f"http://127.0.0.1:{client.port}", max_retries=0) as caller:
        yield caller


class Calls(list[LiveSession]):
    """A callback, which counts its calls and fails."""

    def __call__(self, session: LiveSession) -> None:
        self.append(session)
        raise ValueError("a defect of the caller")


async def heartbeat(session: LiveSession) -> None:
    before = session.info.last_activity
    await wait_until(lambda: session.info.last_activity > before)


async def heartbeats(session: LiveSession) -> None:
    for _ in range(2):
        await heartbeat(session)


async def test_a_session_is_kept_alive(caller: SessionService) -> None:
    """It is renewed again and again, and nobody is warned; the block sends, reads and renews."""
    warned = Calls()
    async with caller.session(
        ANN, AGENT, metadata={"n": 1}, timeout_config=KEPT, on_expiring=warned
    ) as session:
        await wait_until(lambda: session.info.renewal_count >= 2)
        assert (session.info.metadata, session.over, warned) == ({"n": 1}, None, [])
        await session.send("Hello")
        await session.reply("Good morning")
        assert [each.is_agent async for each in session.messages()] == [True, False]
        assert (await session.update(metadata={"n": 2})).metadata == {"n": 2}
        assert (await session.renew()).renewal_count > 2
        async with session.events() as events:
            await session.send("Bye")
            async for event in events:  # among renewals
                if event.type == "session.message":
                    break


async def test_a_session_is_left_and_found_again(caller: SessionService) -> None:
    """It lives on after the block; another block gets it, or a new one if it asks for that."""
    async with caller.session(ANN, AGENT) as session:
        pass
    async with caller.session(ANN, AGENT) as found:
        assert found.id == session.id
        async with caller.session(ANN, AGENT, get_or_create=False, end_at_exit=True) as other:
            assert other.id != session.id
    assert (await caller.sessions.list_page(user_id=ANN)).total == 1


async def test_each_deadline_is_warned_of_once(caller: SessionService) -> None:
    """A session without auto_renew is near its end: one call, and another one after a renewal."""
    warned = Calls()
    async with caller.session(ANN, AGENT, timeout_config=UNKEPT, on_expiring=warned) as session:
        await heartbeats(session)
        assert warned == [session]
        await session.renew()
        await heartbeats(session)
        assert warned == [session] * 2


async def test_a_session_that_another_caller_ends_is_over(caller: SessionService) -> None:
    """The next heartbeat finds out; the block ends as usual, although it would end the session."""
    over = Calls()
    async with caller.session(
        ANN, AGENT, timeout_config=KEPT, on_over=over, end_at_exit=True
    ) as session:
        await caller.sessions.end(session.id)
        await wait_until(lambda: over)
        assert isinstance(session.over, SessionNotFound)
    assert over == [session]


async def test_an_expired_session_is_over(
    caller: SessionService, caplog: pytest.LogCaptureFixture
) -> None:
    """Without auto_renew it expires, and that is noticed when it happens."""
    brief = TimeoutSettings(timeout_minutes=0.005, auto_renew=False)
    over = Calls()
    async with caller.session(ANN, AGENT, timeout_config=brief, on_over=over) as session:
        await wait_until(lambda: over)
        assert isinstance(session.over, SessionExpired)
        await wait_until(lambda: f"a callback of session {session.id} failed" in caplog.text)


async def test_a_session_that_the_block_ends(caller: SessionService) -> None:
    """No heartbeat follows, so none finds that it is over, and the exit does not fail."""
    over = Calls()
    async with (
        caller.session(ANN, AGENT, timeout_config=KEPT) as other,
        caller.session(
            ANN,
            AGENT,
            timeout_config=KEPT,
            get_or_create=False,
            on_over=over,
            end_at_exit=True,
        ) as session,
    ):
        await session.end()
        await heartbeats(other)
    assert (over, session.over) == ([], None)


@pytest.mark.parametrize("max_retries", [0, 20])
async def test_heartbeats_go_on_after_an_outage(
    store: Store, caplog: pytest.LogCaptureFixture, max_retries: int
) -> None:
    """While no node answers, heartbeats are tried; the next node gets one before the expiry."""
    server, replacement = (ServiceUnderTest(app_state(store)) for _ in range(2))
    await server.start_server()
    url = f"http://127.0.0.1:{server.port}"
    async with SessionService(url, max_retries=max_retries) as caller:
        async with caller.session(ANN, AGENT, timeout_config=KEPT) as session:
            replacement.port = server.port
            await server.close()
            await wait_until(lambda: f"heartbeat of session {session.id} failed" in caplog.text)
            await replacement.start_server()
            await heartbeats(session)
            assert session.over is None
        await replacement.close()


async def test_a_heartbeat_that_hangs_is_given_up(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """There is time for another one before the expiry, although the timeout is longer."""
    brief = TimeoutSettings(timeout_minutes=0.05, warning_threshold_minutes=0.05)
    async with (
        proxy_to(client.port or 0) as proxy,
        SessionService(f"http://127.0.0.1:{proxy.port}", timeout=60) as caller,
        caller.session(ANN, AGENT, timeout_config=brief) as session,
    ):
        proxy.mode = "blackhole"
        await wait_until(lambda: f"heartbeat of session {session.id} failed" in caplog.text)
        proxy.mode = "pass"
        await heartbeats(session)
        assert session.over is None


async def test_a_function_for_tokens_may_fail(client: Client) -> None:
    """Its errors do not end the heartbeats."""
    answers: list[str | Exception] = ["created", "read", OSError()]
    tokens = iter([*answers, *["heartbeat"] * 99])

    def token() -> str:
        token = next(tokens)
        if isinstance(token, Exception):
            raise token
        return token

    async with (
        SessionService(f"http://127.0.0.1:{client.port}", token=token) as caller,
        caller.session(ANN, AGENT, timeout_config=KEPT) as session,
    ):
        await wait_until(lambda: session.info.renewal_count)
        assert next(tokens) == "heartbeat"


@pytest.mark.parametrize("raised", [ZeroDivisionError, ConnectionFailed])
async def test_the_error_of_the_block_is_raised(
    client: Client, caller: SessionService, raised: type[Exception]
) -> None:
    """It is not replaced by that of the end; without it, the failed end is raised."""

    async def block() -> None:
        async with caller.session(ANN, AGENT, end_at_exit=True):
            await client.server.close()
            if raised is ZeroDivisionError:
                raise ZeroDivisionError

    with pytest.raises(raised):
        await block()


async def test_a_cancelled_block_ends_its_session(caller: SessionService) -> None:
    """No task is left over, also not a callback that would run for long."""
    before = asyncio.all_tasks()
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def warn(_: LiveSession) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def block() -> None:
        async with caller.session(
            ANN, AGENT, timeout_config=UNKEPT, on_expiring=warn, end_at_exit=True
        ):
            await asyncio.sleep(60)

    running = asyncio.create_task(block())
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cancelled.is_set()
    assert (await caller.sessions.list_page(user_id=ANN)).total == 0
    ours = {each for each in asyncio.all_tasks() - before if "LiveSession" in repr(each)}
    assert ours == set()
