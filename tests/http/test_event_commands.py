"""The command ``events tail`` against a service."""

import asyncio
import json
import shlex
import sys
from pathlib import Path

import pytest

from session_service.client import SessionService
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN, BOB
from tests.support.api import Client
from tests.support.console import Console
from tests.support.processes import environment
from tests.support.waiting import wait_until


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
    client: Client, caller: SessionService, service: AppState, tmp_path: Path
) -> None:
    """Each event is a line at once, also in a pipe; --since the last one goes on without a gap.

    When the reader has read enough, the command ends at once and silently.
    """

    async def head(lines: int, *options: str) -> list[dict[str, str]]:
        command = shlex.join([sys.executable, "-m", "session_service", "events", "tail", "--json"])
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"{command} {shlex.join(options)} | head -{lines}; exit $PIPESTATUS"),
            env=environment(tmp_path, SESSION_SERVICE_URL=f"http://127.0.0.1:{client.port}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, err) == (0, b"")
        return [json.loads(line) for line in out.splitlines()]

    first = asyncio.create_task(head(1, "--user", ANN, "--type", "created,ended"))
    await wait_until(lambda: service.feed.subscribers == 1)
    session_id = (await caller.sessions.create(ANN, AGENT)).session_id
    (created,) = await first
    assert (created["type"], created["subject"]) == ("session.created", session_id)
    await caller.messages.send(session_id, "Hello")
    await caller.sessions.end(session_id)
    rest = await head(2, "--since", created["id"])
    assert [each["type"] for each in rest] == ["session.message", "session.ended"]


async def test_a_filter_that_is_wrong_is_refused(console: Console) -> None:
    """A type or a position that cannot be, a session that is none, and both filters are errors."""
    for options in (["--type", "paused"], ["--since", "yesterday"]):
        refused = await console("events", "tail", *options)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("VALIDATION_ERROR: ")
    gone = await console("events", "tail", "--session", ANN)
    assert gone.err.startswith("SESSION_NOT_FOUND: ")
    assert (await console("events", "tail", "--session", ANN, "--user", ANN)).code == 2
