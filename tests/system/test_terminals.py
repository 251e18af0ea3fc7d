"""The commands that follow a service, on a terminal of 80 columns, while it is restarted."""

from pathlib import Path
from signal import SIGKILL

from rich.cells import cell_len

from chaos.stores.server import free_port
from session_service.client import SessionService
from tests.support.access import AGENT, ANN
from tests.support.processes import Start
from tests.support.terminals import Terminal
from tests.support.waiting import wait_until


async def test_a_tail_survives_a_restart(start: Start, store_url: str, tmp_path: Path) -> None:
    """`events tail` notes that the service is away and back, and has each event once.

    No line is longer than the terminal, and Ctrl-C ends the command with 130, without a trace.
    """
    port = str(free_port())
    settings = {"REDIS_URL": store_url, "PORT": port, "SESSION_EVENTS_CONTENT": "true"}
    node = start(**settings)
    url = f"http://127.0.0.1:{node.port}"
    async with (
        SessionService(url, max_retries=20) as caller,
        Terminal(tmp_path, "events", "tail", SESSION_SERVICE_URL=url) as terminal,
    ):
        session_id = (await caller.sessions.create(ANN, AGENT)).session_id
        n = 0

        async def is_followed() -> bool:
            nonlocal n
            n += 1
            await caller.messages.send(session_id, f"{n} {'long ' * 50}")
            return "user: " in terminal.output

        await wait_until(is_followed, every=0.1)
        node.signal(SIGKILL)
        node.wait()
        await wait_until(lambda: "lost the connection" in terminal.output)
        start(**settings)
        await caller.messages.send(session_id, f"{n + 1} after the restart")
        await caller.sessions.end(session_id)
        await wait_until(lambda: "ended  " in terminal.output)
        terminal.type("\x03")
        assert await terminal.wait() == 130
    lines = [line for line in terminal.lines if "  " in line]
    numbers = [int(line.split("user: ")[1].split()[0]) for line in lines if "user: " in line]
    assert numbers == list(range(numbers[0], n + 2))
    assert max(map(cell_len, lines)) <= 80
    notes = [line for line in terminal.lines if "connect" in line]
    assert [each.partition(":")[0] for each in notes] == ["lost the connection", "connected again"]
    assert "Traceback" not in terminal.output
