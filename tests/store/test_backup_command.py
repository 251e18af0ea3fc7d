"""``session-service backup``: a complete, verified and private copy, or none."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from session_service import commands
from session_service.store.embedded import appendonly
from session_service.store.embedded.server import EmbeddedServer

Capture = pytest.CaptureFixture[str]

COUNT = 2000  # keys of 1 KB


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of the settings."""
    monkeypatch.setenv("SESSION_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("REDIS_URL", raising=False)
    return tmp_path / "data"


@pytest.fixture
async def store(data: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(data)
    await server.start()
    yield server
    await server.stop()


async def write(server: EmbeddedServer, count: int = COUNT) -> None:
    async with Redis.from_url(server.url) as client, client.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.set(f"key-{number}", "x" * 1000, ex=600)
        await pipe.execute()


async def load(folder: Path) -> int:
    """Return how many keys a server has that starts with a copy."""
    server = EmbeddedServer(folder)
    await server.start()
    try:
        async with Redis.from_url(server.url) as client:
            return len([key async for key in client.scan_iter("key-*", count=10_000)])
    finally:
        await server.stop()


def back_up(target: Path, capsys: Capture, code: int = 0) -> Any:
    """Make a backup; return the JSON, or the problem if it fails."""
    done = commands.run(["backup", str(target), "--json"])
    printed, errors = capsys.readouterr()
    assert done == code, errors
    return json.loads(printed) if printed else errors


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


async def test_a_running_store_is_copied_during_rewrites(
    store: EmbeddedServer, tmp_path: Path, capsys: Capture
) -> None:
    """While the store replaces its files and takes writes, copies have all that came before."""
    await write(store)

    async def disturb() -> None:
        async with Redis.from_url(store.url) as client:
            while True:
                await client.execute_command("BGREWRITEAOF")
                for _ in range(50):
                    await client.set("other", "y" * 1000, ex=600)

    disturbing = asyncio.create_task(disturb())
    for number in range(3):
        target = tmp_path / "backups" / str(number)
        made = await asyncio.to_thread(back_up, target, capsys)
        assert made["directory"] == str(target)
        assert made["files"] >= 2
    disturbing.cancel()
    await asyncio.wait([disturbing])
    for number in range(3):
        folder = tmp_path / "backups" / str(number)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
        assert modes == {0o700, 0o600}
        assert await load(folder) == COUNT
    assert leftovers(tmp_path / "backups") == []


async def test_a_stopped_store_is_copied_without_half_a_write(
    store: EmbeddedServer, data: Path, tmp_path: Path, capsys: Capture
) -> None:
    """After a power failure half a write is left out; the copied data are not changed."""
    await write(store, 10)
    await store.stop()
    *_, last = appendonly.entries(data)
    torn = last.file.read_bytes() + b"*3\r\n$3\r\nSET\r\n$5\r\nkey-"
    last.file.write_bytes(torn)
    made = back_up(tmp_path / "copy", capsys)
    assert made["cut"] == len(b"*3\r\n$3\r\nSET\r\n$5\r\nkey-")
    assert last.file.read_bytes() == torn
    assert await load(tmp_path / "copy") == 10


async def test_nothing_is_overwritten_and_nothing_is_left_behind(
    store: EmbeddedServer, data: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A directory that exists is refused; data that are damaged make no copy at all."""
    await write(store, 10)
    existing = tmp_path / "existing"
    existing.mkdir()
    problem = await asyncio.to_thread(back_up, existing, capsys, 1)
    assert f"{existing} exists already" in problem
    assert list(existing.iterdir()) == []
    await store.stop()
    *_, last = appendonly.entries(data)
    content = last.file.read_bytes()
    last.file.write_bytes(content[:200] + b"garbage" + content[200:])
    problem = back_up(tmp_path / "copy", capsys, 1)
    assert f"the data are damaged: {last.file.name}" in problem
    assert not (tmp_path / "copy").exists()
    assert leftovers(tmp_path) == []


def test_other_stores_have_their_own_means(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Without data, and with a store of one's own, the exit code is 2 and one line says why."""
    assert f"there are no data in {data}" in back_up(tmp_path / "copy", capsys, 2)
    monkeypatch.setenv("REDIS_URL", "redis://user:hunter2@host")
    problem = back_up(tmp_path / "copy", capsys, 2)
    assert "redis-cli -u URL --rdb" in problem
    assert "hunter2" not in problem
