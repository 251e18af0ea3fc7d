"""The commands that follow a service, on terminals of 80 columns and 24 lines."""

from pathlib import Path

import pytest
from rich.cells import cell_len

from session_service.client import SessionService
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN
from tests.support.api import Client
from tests.support.terminals import Terminal
from tests.support.waiting import wait_until


@pytest.mark.parametrize("store_url", ["memory://"])
async def test_sessions_and_events_on_a_terminal(
    client: Client, caller: SessionService, service: AppState, tmp_path: Path
) -> None:
    """`events tail` and `sessions watch` fit the terminal, also with hostile texts.

    Ctrl-C ends them with 130 and without a trace, and gives the screen back.
    """
    url = f"http://127.0.0.1:{client.port}"
    sessions = [(await caller.sessions.create(ANN, AGENT)).session_id for _ in range(30)]
    async with (
        Terminal(tmp_path, "events", "tail", SESSION_SERVICE_URL=url) as tail,
        Terminal(tmp_path, "sessions", "watch", SESSION_SERVICE_URL=url) as watch,
    ):
        await wait_until(lambda: service.feed.subscribers == 2 and watch.screen)
        session_id = (await caller.sessions.create(ANN, AGENT, metadata={"a": "b"})).session_id
        await caller.sessions.update(session_id, metadata={"a": "\x1b[2J"})
        await caller.sessions.end(sessions[0])
        await wait_until(lambda: "ended" in tail.output)
        await wait_until(lambda: any("updated" in line for line in watch.screen))
        screen = watch.screen
        for terminal in (tail, watch):
            terminal.type("\x03")
            assert await terminal.wait() == 130
            assert "Traceback" not in terminal.output
    assert max(map(cell_len, tail.lines)) <= 80
    assert [line.split()[1:3] for line in tail.lines if "  " in line] == [
        ["created", session_id],
        ["updated", session_id],
        ["ended", sessions[0]],
    ]
    head, columns, first, *rows, foot = screen
    assert head.split() == ["30", "sessions", "connected"]
    assert columns.split() == ["ID", "USER", "AGENT", "AGE", "LEFT", "STATE", "LAST", "EVENT"]
    assert first.split()[0] == f"{session_id[:8]}…"
    assert first.split()[-4:] == ["active", "updated", first.split()[-2], "ago"]
    assert len([row for row in rows if " active " in row]) >= 19
    assert foot.strip().startswith("… and ")
    assert max(map(cell_len, screen)) <= 80
    entered, left = watch.output.index("\x1b[?1049h"), watch.output.rindex("\x1b[?1049l")
    assert entered < watch.output.index("ID") < left
    assert watch.output.rindex("\x1b[?25h") > watch.output.rindex("\x1b[?25l")


@pytest.mark.parametrize("store_url", ["memory://"])
async def test_a_question_is_answered_by_ctrl_c(
    client: Client, caller: SessionService, tmp_path: Path
) -> None:
    """Ctrl-C at the question of `sessions end` ends the command, and no session."""
    await caller.sessions.create(ANN, AGENT)
    url = f"http://127.0.0.1:{client.port}"
    async with Terminal(tmp_path, "sessions", "end", "--all", SESSION_SERVICE_URL=url) as terminal:
        await wait_until(lambda: "End them? [y/N]" in terminal.output)
        terminal.type("\x03")
        assert await terminal.wait() == 130
        assert "Traceback" not in terminal.output
    assert (await caller.sessions.list_page()).total == 1
