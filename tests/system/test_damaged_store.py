"""The embedded store after a power failure, and after its files were changed."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from session_service.domain import budgets
from session_service.store.embedded import appendonly, directory, watch
from session_service.store.embedded.program import EmbeddedServerError
from session_service.store.embedded.server import EmbeddedServer
from session_service.store.embedded.watch import StoreWatch
from tests.support.api import SESSIONS, create
from tests.support.processes import Start, run
from tests.support.waiting import wait_until
from tests.system.test_embedded import ask, pid_of, running, supervised

ZEROS = bytes(4096)
GARBAGE = bytes(range(255, 0, -1)) * 3
TRANSACTION = b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1\r\n1\r\n"
SHORT = b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100\r\nx"
TAILS = {
    "zeros": ZEROS,
    "garbage": GARBAGE,
    "a command cut short": SHORT,
    "a command cut short, then zeros": SHORT + ZEROS,
    "a transaction without its end": TRANSACTION,
    "a transaction without its end, then zeros": TRANSACTION + ZEROS,
    "one byte": b"*",
}


def incremental(data_dir: Path) -> Path:
    """Return the last file that the server appends to."""
    (file,) = (data_dir / "appendonlydir").glob("*.incr.aof")
    return file


async def fill(data_dir: Path) -> None:
    """Write a thousand keys to a store."""
    async with running(data_dir) as server:
        for n in range(1000):
            await ask(server, "SET", f"key {n}", "value") if n in {0, 999} else None
        await ask(server, "EVAL", "for n = 1, 998 do redis.call('SET', 'key ' .. n, 'v') end", "0")


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
async def test_a_torn_tail_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tail: bytes
) -> None:
    """Everything before a torn tail survives; a log line has its size, and a file keeps it."""
    await fill(tmp_path)
    file = incremental(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole + tail)
    async with running(tmp_path) as server:
        assert await ask(server, "DBSIZE") == 1000
    (record,) = [each for each in caplog.records if "half a write" in each.getMessage()]
    assert record.__dict__["bytes"] == len(tail)
    (kept,) = file.parent.glob("*.cut-*")
    assert record.__dict__["kept"] == str(kept)
    assert kept.read_bytes() == tail
    assert kept.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes()[: len(whole)] == whole


async def test_a_torn_write_is_cut_off_while_the_service_runs(tmp_path: Path) -> None:
    """A server killed in the middle of a write recovers by itself."""
    await fill(tmp_path)
    async with running(tmp_path) as server, supervised(server):
        with incremental(tmp_path).open("ab") as file:
            file.write(SHORT)
        killed = await pid_of(server)
        os.kill(killed, SIGKILL)

        await wait_until(lambda: came_back(server, killed))

        async def is_whole() -> bool:
            with suppress(RedisConnectionError):  # it may have to start once more
                return bool(await ask(server, "DBSIZE") == 1000)
            return False

        await wait_until(is_whole)


def corrupt(data_dir: Path) -> None:
    """Damage a command in the middle of the file."""
    file = incremental(data_dir)
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20] = b"\0" * 20
    file.write_bytes(data)


def lose_manifest(data_dir: Path) -> None:
    (data_dir / "appendonlydir" / appendonly.MANIFEST).unlink()


def spoil_manifest(data_dir: Path) -> None:
    (data_dir / "appendonlydir" / appendonly.MANIFEST).write_bytes(ZEROS)


def empty_manifest(data_dir: Path) -> None:
    (data_dir / "appendonlydir" / appendonly.MANIFEST).write_bytes(b"")


def lose_base(data_dir: Path) -> None:
    (base,) = (data_dir / "appendonlydir").glob("*.base.rdb")
    base.unlink()


# A damage of the files, the message, and how many of 1,000 keys a repair keeps at least.
DAMAGES: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "corrupt": (corrupt, r"appendonly\.aof\.1\.incr\.aof at byte [\d,]+ of [\d,]+", 1),
    "no manifest": (lose_manifest, r"appendonly\.aof\.manifest is missing", 1000),
    "bad manifest": (spoil_manifest, r"appendonly\.aof\.manifest cannot be read", 1000),
    "empty manifest": (empty_manifest, r"appendonly\.aof\.manifest is empty", 1000),
    "no base": (lose_base, r"appendonly\.aof\.1\.base\.rdb is missing", 1000),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_other_damage_names_the_repair_which_helps(tmp_path: Path, name: str) -> None:
    """The start fails with one line, and works after `session-service repair`."""
    damage, message, kept = DAMAGES[name]
    data_dir = tmp_path / "data"
    await fill(data_dir)
    damage(data_dir)
    before = {file.name: file.read_bytes() for file in (data_dir / "appendonlydir").iterdir()}
    failed = run(tmp_path, "serve", LOG_FORMAT="json")
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert re.search(rf"are damaged: {message}; `session-service repair` keeps", line)
    after = {file.name: file.read_bytes() for file in (data_dir / "appendonlydir").iterdir()}
    assert before == after

    looked = run(tmp_path, "repair", "--check")
    assert (looked.returncode, looked.stderr) == (1, "")
    assert before == {f.name: f.read_bytes() for f in (data_dir / "appendonlydir").iterdir()}
    done = run(tmp_path, "repair")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert run(tmp_path, "repair", "--check").returncode == 0
    async with running(data_dir) as server:
        assert kept <= await ask(server, "DBSIZE") <= 1000
    if name == "corrupt":
        lost = re.search(r"([\d,]+) bytes of ([\d,]+)", done.stdout)
        assert lost
        rest = next((data_dir / "appendonlydir").glob("*.cut-*")).read_bytes()
        assert len(rest) == int(lost[1].replace(",", ""))


async def test_damage_before_the_last_file_sets_the_later_ones_aside(tmp_path: Path) -> None:
    """A file after damaged commands is not replayed, but kept, and counted as lost."""
    await fill(tmp_path / "data")
    folder = tmp_path / "data" / "appendonlydir"
    corrupt(tmp_path / "data")
    (folder / "appendonly.aof.2.incr.aof").write_bytes(b"*1\r\n$8\r\nFLUSHALL\r\n")
    manifest = folder / appendonly.MANIFEST
    manifest.write_text(manifest.read_text() + "file appendonly.aof.2.incr.aof seq 2 type i\n")
    done = run(tmp_path, "repair")
    assert done.returncode == 0
    (aside,) = folder.glob("appendonly.aof.2.incr.aof.cut-*")
    assert aside.name in done.stdout
    async with running(tmp_path / "data") as server:
        assert await ask(server, "DBSIZE") >= 1


async def test_a_damaged_snapshot_cannot_be_repaired(tmp_path: Path) -> None:
    """The command says so, changes nothing, and refers to a backup."""
    data_dir = tmp_path / "data"
    async with running(data_dir) as server:
        await ask(server, "SET", "key", "value" * 100)
        await ask(server, "BGREWRITEAOF")
        await wait_until((data_dir / "appendonlydir/appendonly.aof.2.base.rdb").exists)
    (base,) = (data_dir / "appendonlydir").glob("*.base.rdb")
    data = bytearray(base.read_bytes())
    data[len(data) // 2] ^= 0xFF
    base.write_bytes(data)
    done = run(tmp_path, "repair")
    assert done.returncode == 1
    assert "restore a backup" in done.stdout + done.stderr
    assert base.read_bytes() == data
    failed = run(tmp_path, "serve", LOG_FORMAT="json")
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1


async def test_repair_leaves_a_running_store_alone(tmp_path: Path) -> None:
    """Repair refuses a data directory that is in use."""
    async with running(tmp_path / "data"):
        done = run(tmp_path, "repair")
    assert done.returncode == 1
    assert "are in use by a running service: stop it first" in done.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"REDIS_URL": "redis://localhost"}, "REDIS_URL"),
        ({"SESSION_DATA_DIR": "/nonexistent/data"}, "there are no data in /nonexistent/data"),
    ],
)
def test_repair_without_an_embedded_store(
    tmp_path: Path, settings: dict[str, str], says: str
) -> None:
    """Without an embedded store, repair says so in one line."""
    done = run(tmp_path, "repair", **settings)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


# While it runs


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STORE_LOOK_SECONDS", 0.05)


async def test_a_removed_data_directory_is_written_anew(tmp_path: Path) -> None:
    """A removed data directory is logged and rewritten; all acknowledged data survive a kill."""
    data_dir = tmp_path / "data"
    async with running(data_dir) as server, supervised(server):
        notices: list[str] = []
        async with watched(server, notices):
            await ask(server, "SET", "before", "1")
            shutil.rmtree(data_dir)
            await wait_until(lambda: notices == [watch.REMOVED, ""])
            await ask(server, "SET", "after", "1")
            assert data_dir.stat().st_mode & 0o777 == 0o700
            killed = await pid_of(server)
            os.kill(killed, SIGKILL)
            await wait_until(lambda: came_back(server, killed))
            assert await ask(server, "DBSIZE") == 2


async def came_back(server: EmbeddedServer, killed: int) -> bool:
    try:
        return await pid_of(server) != killed
    except RedisConnectionError:
        return False


class watched:  # noqa: N801 - used as a function
    """Watch a server for the block."""

    def __init__(self, server: EmbeddedServer, notices: list[str]) -> None:
        self._watch = StoreWatch(server, notices.append)

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._watch.run())
        await asyncio.sleep(0.2)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.mark.parametrize(
    "gone", ["appendonlydir", "appendonlydir/*.manifest", "appendonlydir/*.aof"]
)
async def test_removed_files_are_written_anew(tmp_path: Path, gone: str) -> None:
    """Any removed files are rewritten, and no data is missing."""
    data_dir = tmp_path / "data"
    async with running(data_dir) as server, supervised(server):
        notices: list[str] = []
        async with watched(server, notices):
            await ask(server, "SET", "key", "1")
            for path in data_dir.glob(gone):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            await wait_until(lambda: notices == [watch.REMOVED, ""])
            killed = await pid_of(server)
            os.kill(killed, SIGKILL)
            await wait_until(lambda: came_back(server, killed))
            assert await ask(server, "GET", "key") == "1"


async def test_a_replaced_data_directory_is_left_alone(tmp_path: Path) -> None:
    """A replaced data directory is not overwritten, and degrades health."""
    data_dir, backup = tmp_path / "data", tmp_path / "backup"
    await fill(backup)
    content = incremental(backup).read_bytes()
    async with running(data_dir) as server, supervised(server):
        notices: list[str] = []
        async with watched(server, notices):
            await ask(server, "SET", "key", "1")
            data_dir.rename(tmp_path / "moved")
            shutil.copytree(backup, data_dir)
            await wait_until(lambda: notices[:1] == [watch.REPLACED])
            assert incremental(data_dir).read_bytes() == content
            shutil.rmtree(data_dir)
            (tmp_path / "moved").rename(data_dir)
            await wait_until(lambda: notices[-1] == "")


async def test_a_removed_lock_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a new lock a second service cannot start, and the server can be restarted."""
    monkeypatch.setattr(directory, "_LOCK_SECONDS", 0.1)
    async with running(tmp_path) as server, supervised(server), watched(server, []):
        await ask(server, "SET", "key", "1")
        (tmp_path / "lock").unlink()
        await wait_until((tmp_path / "lock").exists)
        second = EmbeddedServer(tmp_path)
        with pytest.raises(EmbeddedServerError, match="in use by another running service"):
            await second.start()
        await second.stop()
        killed = await pid_of(server)
        os.kill(killed, SIGKILL)
        await wait_until(lambda: came_back(server, killed))
        assert await ask(server, "GET", "key") == "1"


@pytest.mark.parametrize("gone", ["folder", "socket"])
async def test_a_removed_socket_is_made_again(tmp_path: Path, gone: str) -> None:
    """The store is restarted at the same URL, with all its data."""
    async with running(tmp_path) as server, supervised(server):
        notices: list[str] = []
        async with watched(server, notices):
            await ask(server, "SET", "key", "1")
            shutil.rmtree(server.folder) if gone == "folder" else server.socket.unlink()
            await wait_until(lambda: notices == [watch.SOCKET_REMOVED, ""])
            assert await ask(server, "GET", "key") == "1"
            assert server.folder.stat().st_mode & 0o777 == 0o700


async def test_both_may_be_removed(tmp_path: Path) -> None:
    """The data are rewritten over the open connection, and then the socket is replaced."""
    data_dir = tmp_path / "data"
    async with running(data_dir) as server, supervised(server):
        notices: list[str] = []
        async with watched(server, notices):
            await ask(server, "SET", "key", "1")
            shutil.rmtree(data_dir)
            shutil.rmtree(server.folder)
            await wait_until(lambda: notices and notices[-1] == "")
            assert await ask(server, "GET", "key") == "1"


async def test_a_store_that_is_nearly_full_is_warned_of(start: Start) -> None:
    """At 80 % of its limit a store is warned of; at the limit health gives the reason."""
    service = start(SESSION_DATA_MAX_MEMORY="20mb")
    async with service.client() as client:
        await create(client)
        socket = Path(service.store_socket)
        async with Redis(unix_socket_path=str(socket)) as redis:
            for n in range(16):
                await redis.set(f"{n}", "x" * budgets.MIB, ex=60)
            await wait_until(lambda: "of its maxmemory of 20 MiB" in service.stderr)
            with pytest.raises(ResponseError, match="maxmemory"):
                await fill_up(redis)
            # The buffers of this client were part of what filled it.
            await redis.config_set("maxmemory", 20 * budgets.MIB - 64 * budgets.KIB)

        async def reasons() -> list[str]:
            async with client.get(f"{SESSIONS}/health") as response:
                found: list[str] = (await response.json()).get("reasons", [])
                return found

        await wait_until(reasons)
        assert "the store is full (maxmemory is 20 MiB)" in (await reasons())[0]


async def fill_up(redis: Redis) -> None:
    for n in range(10_000):
        await redis.set(f"more {n}", "x" * 1000, ex=60)


async def test_the_default_limit_is_half_of_the_memory(tmp_path: Path) -> None:
    """The default limit is half of the memory; 0 is no limit."""
    async with running(tmp_path / "default") as server:
        limit = (await ask(server, "CONFIG", "GET", "maxmemory"))["maxmemory"]
        assert int(limit) == server.max_memory > 0
    server = EmbeddedServer(tmp_path / "unlimited", 0)
    await server.start()
    assert (await ask(server, "CONFIG", "GET", "maxmemory"))["maxmemory"] == "0"
    await server.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_health_of_the_service_has_it(start: Start, tmp_path: Path, workers: str) -> None:
    """Every process reports degraded health while the data directory is replaced."""
    backup = tmp_path / "backup"
    await fill(backup)
    service = start(WEB_CONCURRENCY=workers)
    async with service.client() as client:
        await create(client)
        (tmp_path / "data").rename(tmp_path / "moved")
        shutil.copytree(backup, tmp_path / "data")

        async def reasons() -> list[str]:
            async with client.get(f"{SESSIONS}/health") as response:
                found: list[str] = (await response.json()).get("reasons", [])
                return found

        await wait_until(reasons)
        assert await reasons() == [watch.REPLACED]
        shutil.rmtree(tmp_path / "data")
        (tmp_path / "moved").rename(tmp_path / "data")

        async def is_well() -> bool:
            return not await reasons()

        await wait_until(is_well)


# Who can read it


async def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    """Files are private with any umask and any mode of an existing directory."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o755)
    data_dir.chmod(0o755)
    before = os.umask(0o022)
    try:
        async with running(data_dir) as server:
            await ask(server, "SET", "key", "value")
            files = [file for file in data_dir.rglob("*") if file.is_file()]
            assert len(files) >= 5
            assert {file.stat().st_mode & 0o077 for file in files} == {0}
    finally:
        os.umask(before)


async def test_a_directory_that_others_can_read_is_warned_of(tmp_path: Path, start: Start) -> None:
    """A directory or files that others can read are warned of, private ones are not."""
    data_dir = tmp_path / "data"
    assert start().port
    assert list(appendonly.exposed(data_dir)) == []
    (data_dir / "appendonlydir").chmod(0o755)
    data_dir.chmod(0o755)
    incremental(data_dir).chmod(0o644)
    assert list(appendonly.exposed(data_dir)) == [data_dir, incremental(data_dir)]


async def test_a_start_on_a_readable_directory_says_so(tmp_path: Path, start: Start) -> None:
    """One line says what to do."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    service = start()
    assert service.port
    (line,) = [line for line in service.log if "others on this machine" in line["event"]]
    assert "chmod -R go=" in line["event"]
    assert line["paths"] == [str(tmp_path / "data")]


async def test_a_directory_in_use_is_waited_for_with_a_line(tmp_path: Path, start: Start) -> None:
    """A start that waits for the directory says so after a second, not after ten."""
    first = start()
    assert first.port
    second = start(SESSION_DATA_DIR=str(tmp_path / "data"))
    await wait_until(lambda: "another service uses the data directory" in second.stderr)
    second.signal(SIGTERM)
    assert second.wait() == 0
