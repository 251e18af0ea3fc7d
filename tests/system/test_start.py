"""Addresses, warnings at the start, and resource limits."""

import asyncio
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.processes import Start, environment, run
from tests.support.tools import need, skip_without
from tests.support.waiting import wait_until
from tests.system.test_healthcheck import need_ipv6
from tests.system.test_process import SlowRequest

EXPOSED = "other machines may reach the service"
V4, V6 = "127.0.0.1", "[::1]"


async def reachable_addresses(port: int) -> set[str]:
    """Return the loopback addresses on which the service answers."""
    answering = set()
    async with ClientSession() as client:
        for host in (V4, V6):
            try:
                async with client.get(f"http://{host}:{port}/healthz") as response:
                    assert response.status == 200
                    answering.add(host)
            except OSError:
                pass
    return answering


@pytest.mark.parametrize(
    ("host", "addresses", "is_exposed"),
    [
        ("", {V4, V6}, False),
        ("127.0.0.1", {V4}, False),
        ("::1", {V6}, False),
        ("0.0.0.0", {V4}, True),  # noqa: S104 - what is tested
        ("::", {V4, V6}, True),
        ("0.0.0.0,::", {V4, V6}, True),
    ],
)
async def test_the_service_listens_where_it_is_told(
    start: Start, store_url: str, host: str, addresses: set[str], is_exposed: bool
) -> None:
    """It listens on loopback by default, ``::`` includes IPv4, and public addresses are logged."""
    need_ipv6()
    service = start(REDIS_URL=store_url, HOST=host)
    assert await reachable_addresses(service.port) == addresses
    warnings = [line["event"] for line in service.log if line["level"] == "warning"]
    assert [EXPOSED in warning for warning in warnings].count(True) == is_exposed


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "cannot listen on 192.0.2.1:1234: Cannot assign requested address"),
        ("127.0.0.1,192.0.2.1", "cannot listen on 127.0.0.1:1234, 192.0.2.1:1234: Cannot assign"),
        ("no-such-host.invalid", "cannot listen on no-such-host.invalid:1234: "),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line(tmp_path: Path, host: str, reason: str) -> None:
    """Exit code 1 and no traceback, with one worker and with several."""
    for workers in ("1", "2"):
        done = run(
            tmp_path, "serve", HOST=host, PORT="1234", REDIS_URL="redis://127.0.0.1:1",
            WEB_CONCURRENCY=workers,
        )  # fmt: skip
        assert done.returncode == 1
        assert reason in json.loads(done.stderr)["event"]


def test_a_misspelt_setting_is_logged_once(start: Start, store_url: str) -> None:
    """A misspelt setting is logged by the main process only."""
    service = start(REDIS_URL=store_url, WEB_CONCURRENCY="2", SESSION_DATADIR="hunter2")
    assert service.port
    warnings = [line["event"] for line in service.log if "SESSION_DATADIR" in line["event"]]
    assert len(warnings) == 1
    assert warnings[0].endswith("did you mean SESSION_DATA_DIR?")


def test_workers_read_the_secret_where_the_service_does(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    """Workers read a secret from its file, as others may read the environment."""
    (tmp_path / "url").write_text(f"{store_url}\n")
    service = start(REDIS_URL_FILE=str(tmp_path / "url"), WEB_CONCURRENCY="2")
    assert service.port
    workers = [line["worker"] for line in service.log if line["event"] == "worker started"]
    assert len(workers) == 2
    for pid in workers:
        assert store_url not in Path(f"/proc/{pid}/environ").read_text()


def start_with_file_limit(files: int, folder: Path, store_url: str) -> subprocess.Popen[str]:
    """Start a service with a limit on open files."""
    command = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", sys.executable, "-m"]
    return subprocess.Popen(
        [*command, "session_service", "serve"],
        env=environment(folder, REDIS_URL=store_url), cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_file_limit_too_low_stops_the_start(tmp_path: Path, store_url: str) -> None:
    """One line has the limit and the number that is needed."""
    with start_with_file_limit(40, tmp_path, store_url) as service:
        _, log = service.communicate(timeout=60)
    assert service.returncode == 1
    line = log.splitlines()[-1]
    assert "the limit of open files is 40: it must be at least 64, and 10256 for" in line


def test_a_low_file_limit_is_told_in_plain_numbers(tmp_path: Path, store_url: str) -> None:
    """The service starts, and logs how many connections it can accept."""
    with start_with_file_limit(256, tmp_path, store_url) as service:
        assert service.stdout is not None
        assert "listens on" in service.stdout.readline()
        service.terminate()
        _, log = service.communicate(timeout=60)
    (line,) = [each for each in map(json.loads, log.splitlines()) if "limit" in each]
    assert (line["limit"], line["needed"], line["connections"]) == (256, 10256, 128)
    assert "ulimit -n" in line["event"]


def test_standard_streams_may_be_closed(tmp_path: Path, store_url: str) -> None:
    """A service started without standard streams serves and stops cleanly."""
    with socket.create_server((V4, 0)) as free:
        port = str(free.getsockname()[1])
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "session_service",
         "serve"],
        env=environment(tmp_path, REDIS_URL=store_url, PORT=port), cwd=tmp_path,
    )  # fmt: skip
    try:
        give_up = time.monotonic() + 30
        while run(tmp_path, "healthcheck", PORT=port).returncode:
            assert time.monotonic() < give_up
    finally:
        process.terminate()
        assert process.wait(30) == 0


@contextmanager
def on_a_terminal(folder: Path, *prefix: str, **settings: str) -> Iterator[tuple[int, int]]:
    """Start a service on a terminal of its own; yield its process id and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [*prefix, sys.executable, "-m", "session_service", "serve"]
        os.execvpe(command[0], command, environment(folder, LOG_FORMAT="json", **settings))  # noqa: S606
    try:
        yield pid, terminal
    finally:
        try:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


async def port_on(terminal: int) -> int:
    """Read a terminal until the service prints its port."""
    output = ""
    while not (found := re.search(r"listens on http://[^ ]*:(\d+);", output)):
        output += (await asyncio.to_thread(os.read, terminal, 4096)).decode()
    return int(found[1])


async def test_a_closed_terminal_drains_the_service(tmp_path: Path, store_url: str) -> None:
    """The request in flight is answered, and the exit code is that of a clean stop."""
    with on_a_terminal(tmp_path, REDIS_URL=store_url) as (pid, terminal):
        request = await SlowRequest.begin(await port_on(terminal))
        os.close(terminal)
        assert b"201 Created" in await request.finish()
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


async def test_after_nohup_a_hang_up_is_ignored(tmp_path: Path, store_url: str) -> None:
    """Started with nohup, the service survives its terminal."""
    ignoring = ("/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    with on_a_terminal(tmp_path, *ignoring, REDIS_URL=store_url) as (pid, terminal):
        port = await port_on(terminal)
        os.kill(pid, signal.SIGHUP)
        os.close(terminal)
        for _ in range(5):
            assert await reachable_addresses(port) == {V4}
        os.kill(pid, signal.SIGTERM)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def children_of(pid: int) -> dict[int, str]:
    """Return the state and name of each child process, as ``ps`` shows them."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,comm="], stdout=subprocess.PIPE, text=True, check=True
    )
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    return {int(row[0]): f"{row[2]} {row[3]}" for row in rows if int(row[1]) == pid}


@contextmanager
def as_process_1(folder: Path) -> Iterator[tuple[int, int]]:
    """Start a service as process 1 of a namespace; yield its process id and port."""
    isolated = ["unshare", "--fork", "--pid", "--mount-proc"]
    need("unshare")
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        skip_without("unshare, with the rights it needs")
    with socket.create_server((V4, 0)) as free:
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        outer = subprocess.Popen(
            [*isolated, sys.executable, "-m", "session_service", "serve"],
            env=environment(folder, PORT=str(port)), cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    give_up = time.monotonic() + 10
    while not (found := list(children_of(outer.pid))):
        assert time.monotonic() < give_up
    try:
        yield found[0], port
    finally:
        os.kill(found[0], signal.SIGTERM)
        assert outer.wait(30) == 0


async def test_process_1_reaps_what_is_left_to_it(tmp_path: Path) -> None:
    """In a container no zombies of a killed embedded store are left."""
    with as_process_1(tmp_path) as (service, port):

        async def is_up() -> bool:
            return await reachable_addresses(port) == {V4}

        await wait_until(is_up, seconds=30)
        killed: set[int] = set()
        for _ in range(3):
            (guard,) = await wait_until(lambda: guards_of(service) - killed)
            os.kill(guard, signal.SIGKILL)  # leaves the server and its watcher to process 1
            killed.add(guard)
        await wait_until(lambda: guards_of(service) - killed)
        await wait_until(lambda: not any(s.startswith("Z") for s in children_of(service).values()))


def guards_of(pid: int) -> set[int]:
    """Return the living guards of embedded stores: shells that lead a group."""
    found = set()
    for child, is_ in children_of(pid).items():
        with suppress(ProcessLookupError):
            if re.match(r"[^Z]\S* sh$", is_) and os.getpgid(child) == child:
                found.add(child)
    return found
