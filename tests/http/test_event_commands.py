"""The commands ``events tail`` and ``sessions watch`` against a service, through a pipe."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from session_service.client import SessionService
from session_service.composition import Store
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN, BOB, KnownCredentials
from tests.support.api import Client
from tests.support.console import Console
from tests.support.processes import environment
from tests.support.service import app_state
from tests.support.waiting import wait_until

Piped = Callable[..., AbstractAsyncContextManager[asyncio.StreamReader]]


@pytest.fixture
def piped(client: Client, tmp_path: Path) -> Piped:
    """Read from a command, and close the pipe: it must end silently and with 0 then."""

    @asynccontextmanager
    async def run(*arguments: str) -> AsyncIterator[asyncio.StreamReader]:
        ours, its = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "session_service", *arguments),
            env=environment(tmp_path, SESSION_SERVICE_URL=f"http://127.0.0.1:{client.port}"),
            stdout=its,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(its)
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb")
        )
        try:
            yield reader
            transport.close()
            _, err = await asyncio.wait_for(process.communicate(), 10)
            assert (process.returncode, err) == (0, b"")
        finally:
            transport.close()
            if process.returncode is None:
                process.kill()
                await process.wait()

    return run


async def next_line(reader: asyncio.StreamReader) -> str:
    return (await asyncio.wait_for(reader.readline(), 10)).decode()


async def test_a_tail_of_a_session_ends_with_it(
    console: Console, caller: SessionService, service: AppState
) -> None:
    """`events tail --session` prints a line for each event, and ends after the last one."""
    session_id = (await caller.sessions.create(ANN, AGENT)).session_id
    tail = asyncio.create_task(console("events", "tail", "--session", session_id))
    await wait_until(lambda: service.feed.subscribers == 1)
    await caller.messages.send(session_id, "Hello")
    await caller.messages.send((await caller.sessions.create(BOB, AGENT)).session_id, "Hello")
    await caller.sessions.end(session_id)
    done = await asyncio.wait_for(tail, 10)
    assert (done.code, done.err) == (0, "")
    lines = [line.split("  ", 1)[1] for line in done.out.splitlines()]
    assert lines == [f"message   {session_id}  by the user", f"ended     {session_id}"]


@pytest.mark.parametrize("store_url", ["memory://"])
@pytest.mark.usefixtures("begun")
async def test_a_tail_goes_on_where_an_earlier_one_was(
    piped: Piped, caller: SessionService, service: AppState
) -> None:
    """Each event is a line at once, also in a pipe; --since the last one goes on without a gap."""
    tail = ("events", "tail", "--json")
    async with piped(*tail, "--user", ANN, "--type", "created,ended") as lines:
        await wait_until(lambda: service.feed.subscribers == 1)
        session_id = (await caller.sessions.create(ANN, AGENT)).session_id
        created = json.loads(await next_line(lines))
    assert (created["type"], created["subject"]) == ("session.created", session_id)
    await caller.messages.send(session_id, "Hello")
    await caller.sessions.end(session_id)
    async with piped(*tail, "--since", created["id"]) as lines:
        types = [json.loads(await next_line(lines))["type"] for _ in range(2)]
    assert types == ["session.message", "session.ended"]


@pytest.mark.parametrize("store_url", ["memory://"])
async def test_a_watch_has_the_sessions_and_then_their_changes(
    piped: Piped, caller: SessionService
) -> None:
    """Through a pipe, `sessions watch` prints a line for each session, then for each event."""
    await caller.sessions.create(BOB, AGENT)
    session_id = (await caller.sessions.create(ANN, AGENT)).session_id
    watch = ("sessions", "watch", "--user", ANN)
    async with piped(*watch) as lines, piped(*watch, "--json") as documents:
        states = await next_line(lines), json.loads(await next_line(documents))
        await caller.sessions.end(session_id)
        changes = await next_line(lines), json.loads(await next_line(documents))
    assert states[0].split()[1:5] == ["active", session_id, "user", f"{ANN},"]
    assert states[1]["sessionId"] == session_id
    assert changes[0].split()[1:] == ["ended", session_id]
    assert (changes[1]["type"], changes[1]["subject"]) == ("session.ended", session_id)


async def test_a_filter_that_is_wrong_is_refused(console: Console) -> None:
    """A type or a position that cannot be, a session that is none, and both filters are errors."""
    for options in (["--type", "paused"], ["--since", "yesterday"]):
        refused = await console("events", "tail", *options)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("VALIDATION_ERROR: ")
    gone = await console("events", "tail", "--session", ANN)
    assert gone.err.startswith("SESSION_NOT_FOUND: ")
    assert (await console("events", "tail", "--session", ANN, "--user", ANN)).code == 2


class TestWithAccessControl:
    @pytest.fixture
    def service(self, store: Store) -> AppState:
        return app_state(store, access=KnownCredentials())

    async def test_a_stream_that_is_refused_is_one_line(self, console: Console) -> None:
        """Without a credential, the commands that follow events end with the reason, and with 1."""
        for command in (("events", "tail"), ("sessions", "watch")):
            refused = await console(*command)
            assert (refused.code, refused.out) == (1, "")
            assert refused.err.startswith("UNAUTHORIZED: ")
            assert len(refused.err.splitlines()) == 1
