"""The commands that follow a service, on terminals of 80 columns, while it is restarted."""

from pathlib import Path
from signal import SIGKILL

import pytest

from chaos.stores.server import free_port
from session_service.client import SessionService
from tests.support.access import AGENT, ANN
from tests.support.processes import Start
from tests.support.terminals import Terminal
from tests.support.waiting import wait_until


@pytest.mark.proof
async def test_commands_survive_a_restart(start: Start, store_url: str, tmp_path: Path) -> None:
    """The commands say that the service is away and back; they miss nothing."""
    settings = {"PORT": str(free_port()), "SESSION_EVENTS_CONTENT": "true"}
    node = start(REDIS_URL=store_url, **settings)
    url = f"http://127.0.0.1:{node.port}"
    async with (
        SessionService(url, max_retries=20) as caller,
        Terminal(tmp_path, "events", "tail", SESSION_SERVICE_URL=url) as tail,
        Terminal(tmp_path, "sessions", "watch", SESSION_SERVICE_URL=url) as watch,
    ):
        first = (await caller.sessions.create(ANN, AGENT)).session_id
        sent = 0

        async def is_followed() -> bool:
            nonlocal sent
            sent += 1
            await caller.messages.send(first, f"{sent} {'long ' * 50}")
            return "user: " in tail.output and any("message" in line for line in watch.screen)

        await wait_until(is_followed, every=0.1)
        node.signal(SIGKILL)
        node.wait()
        await wait_until(lambda: "lost the connection: " in tail.output)
        await wait_until(lambda: "reconnecting: " in watch.screen[0])
        start(REDIS_URL=store_url, **settings)
        sent += 1
        await caller.messages.send(first, f"{sent} after the restart")
        second = (await caller.sessions.create(ANN, AGENT)).session_id
        await caller.sessions.end(first)
        await wait_until(lambda: "ended  " in tail.output)
        await wait_until(lambda: any(" ended " in row for row in watch.screen[2:]))
        head, _, *rows = watch.screen
    lines = [line.split("user: ")[1].split() for line in tail.lines if "user: " in line]
    assert [int(words[0]) for words in lines] == list(range(int(lines[0][0]), sent + 1))
    notes = [line for line in tail.lines if "connect" in line]
    assert [each.partition(":")[0] for each in notes] == ["lost the connection", "connected again"]
    assert head.split() == ["1", "session", "connected"]
    assert [row[:9] for row in rows[:2]] == [f"{second[:8]}…", f"{first[:8]}…"]
    assert ("active" in rows[0], "ended" in rows[1]) == (True, True)
