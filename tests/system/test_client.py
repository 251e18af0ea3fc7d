"""The Python client while the node that it talks to is killed and replaced."""

import asyncio
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from chaos.stores.server import free_port
from tests.support.access import AGENT, ANN
from tests.support.processes import ROOT, Start
from tests.support.waiting import wait_until


async def test_a_killed_node_loses_and_doubles_nothing(
    start: Start,
    store_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The function of the guide, of fifteen lines at most: each message and event is there once."""
    found = re.search(
        r"```python\n(.{,200}def talk.*?)```", (ROOT / "docs/client.md").read_text(), re.DOTALL
    )
    assert found
    assert len(found[1].splitlines()) <= 15
    (tmp_path / "life.py").write_text(found[1])
    talk = runpy.run_path(str(tmp_path / "life.py"))["talk"]
    port = str(free_port())
    node = start(REDIS_URL=store_url, PORT=port)
    assert node.port == int(port)
    contents = [f"Message {n}" for n in range(60)]
    left = contents.copy()

    def taken() -> Iterator[str]:
        while left:
            yield left.pop(0)

    monkeypatch.setenv("SESSION_SERVICE_URL", f"http://127.0.0.1:{port}")
    living = asyncio.create_task(talk(ANN, AGENT, taken()))
    await wait_until(lambda: len(left) < len(contents) - 10)
    node.signal(SIGKILL)
    node.wait()
    assert left
    replacement = start(REDIS_URL=store_url, PORT=port)
    assert replacement.port == int(port)
    await asyncio.wait_for(living, 30)
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(contents)] == contents
    types = Counter(printed[len(contents) :])
    assert types["session.message"] == len(contents)
    assert (types["reset"], types["session.ended"]) == (0, 1)
