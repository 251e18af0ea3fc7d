"""``sessions export`` and ``import`` of many sessions, with commands and services that are killed.

TRANSFER_SESSIONS=1000000 make proof PYTEST_ARGS="-k transfers --timeout 7200"
"""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from signal import SIGKILL
from typing import Any, NamedTuple, TypeVar
from uuid import NAMESPACE_URL, uuid5

import pytest

from chaos.stores.server import free_port
from session_service.client import SessionService, TimeoutSettings
from tests.support.processes import Start, environment
from tests.support.servers import store_server, valkey_binary

SESSIONS = int(os.environ.get("TRANSFER_SESSIONS", "30000"))
AT_ONCE = 64
MAX_BYTES = 100_000_000  # of memory

_Message = tuple[str, str, dict[str, Any], list[dict[str, Any]] | None]

T = TypeVar("T")
R = TypeVar("R")


class Run(NamedTuple):
    """The exit code of a command, or minus the signal that ended it, and its peak memory."""

    code: int
    peak_bytes: int


@pytest.mark.proof
@pytest.mark.timeout(600 + SESSIONS // 100)
async def test_many_sessions_arrive_once_each_with_little_memory(
    start: Start, tmp_path: Path
) -> None:
    """Nothing is lost or doubled when commands and services are killed; memory stays small."""
    with store_server(valkey_binary()) as old_store, store_server(valkey_binary()) as new_store:
        ports = {each: str(free_port()) for each in (old_store, new_store)}
        nodes = {each: start(REDIS_URL=each, PORT=port) for each, port in ports.items()}
        urls = {each: f"http://127.0.0.1:{nodes[each].port}" for each in ports}

        def replace(store: str) -> Callable[[], None]:
            def kill() -> None:
                nodes[store].kill()
                nodes[store] = start(REDIS_URL=store, PORT=ports[store])
                assert nodes[store].port == int(ports[store])

            return kill

        expected = await fill(urls[old_store])
        file = tmp_path / "sessions.jsonl"
        ids = tmp_path / "sessions.jsonl.ids"
        export = ("export", "--output", str(file), "--url", urls[old_store])
        away = replace(old_store)
        runs = await asyncio.to_thread(interrupted, tmp_path, export, file, 500, away)
        command = ("import", str(file), "--url", urls[new_store])
        away = replace(new_store)
        runs += await asyncio.to_thread(interrupted, tmp_path, command, ids, 100, away)
        assert [run.code for run in runs] == [-SIGKILL, -SIGKILL, 0] * 2
        assert max(run.peak_bytes for run in runs) < MAX_BYTES
        assert await content_of(urls[new_store]) == expected
        assert await content_of(urls[old_store]) == expected
        results = [json.loads(line) for line in ids.read_text().splitlines()[1:]]
        assert len({each["old"] for each in results}) == len(results) == SESSIONS
        assert len({each["new"] for each in results}) == SESSIONS


def interrupted(
    folder: Path, command: tuple[str, ...], file: Path, size: int, replace: Callable[[], None]
) -> list[Run]:
    """Run a command that is killed twice; in the last run the service is, and is replaced.

    The events happen when ``file`` has a quarter, a half and three quarters of the sessions, each
    of which takes about ``size`` bytes.
    """
    parts = [SESSIONS * size * quarters // 4 for quarters in (1, 2, 3)]
    return [
        run(folder, command, file, parts[0]),
        run(folder, (*command, "--resume"), file, parts[1]),
        run(folder, (*command, "--resume"), file, parts[2], replace),
    ]


def run(
    folder: Path,
    command: tuple[str, ...],
    file: Path,
    size: int,
    then: Callable[[], None] | None = None,
) -> Run:
    """Run a command; once the file has a size, kill it, or do something else."""
    errors = folder / "errors"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "session_service", "sessions", *command],
            env=environment(folder),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    peak = 0
    is_due = True
    while process.poll() is None:
        peak = max(peak, peak_of(process.pid))
        if is_due and file.exists() and file.stat().st_size >= size:
            is_due = False
            if then:
                then()
            else:
                process.kill()
        time.sleep(0.01)
    assert not is_due, f"it ended too early: {errors.read_text()}"
    return Run(process.returncode, peak)


def peak_of(pid: int) -> int:
    """Return the peak memory of a process, without that of its parent, which wait4 may count."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0  # it has ended


async def fill(url: str) -> Counter[bytes]:
    """Create the sessions, of which every fifth has a conversation; return their digests."""
    expected = Counter[bytes]()
    async with SessionService(url, max_retries=5) as caller:

        async def create(n: int) -> None:
            user, agent = str(uuid5(NAMESPACE_URL, f"{n}")), str(uuid5(NAMESPACE_URL, f"{n % 99}a"))
            timeouts = TimeoutSettings(
                timeout_minutes=1000 + n / 1000 % 400,
                max_duration_minutes=2000,
                warning_threshold_minutes=1 + n % 7,
                auto_renew=n % 3 == 0,
            )
            metadata = {"n": n, "share": n / 7, "big": 2**60 + n, "tags": ["ä☃", {"none": None}]}
            created = await caller.sessions.create(
                user, agent, metadata=metadata, timeout_config=timeouts
            )
            messages = conversation(n, user, agent)
            for content, author, about, attachments in messages:
                await caller.messages.send(
                    created.session_id,
                    content,
                    author_id=author,
                    metadata=about,
                    attachments=attachments,
                )
            # The service keeps times to the millisecond.
            expected[digest(user, agent, metadata, created.timeout_config, messages)] += 1

        async for _ in at_once(create, range(SESSIONS)):
            pass
    return expected


def conversation(n: int, user: str, agent: str) -> list[_Message]:
    """Return the messages of the n-th session."""
    if n % 5:
        return []
    attachments = [{"url": f"https://files.example/{n}.png", "type": "image"}]
    question = ("Hello " * (1 + n % 50), user, {"n": n}, attachments)
    return [question, (f"Answer {n}", agent, {"score": n / 3}, None)] * (1 + n % 3)


async def content_of(url: str) -> Counter[bytes]:
    """Return the digests of all sessions of a service."""
    found = Counter[bytes]()
    async with SessionService(url, max_retries=5) as caller:

        async def read(session: Any) -> bytes:
            messages = [
                (each.content, each.author_id, each.metadata, each.attachments or None)
                async for each in caller.messages.list(session.session_id, after=0)
            ]
            return digest(
                session.user_id,
                session.agent_id,
                session.metadata,
                session.timeout_config,
                messages,
            )

        async for page in caller.sessions.list().pages():
            async for each in at_once(read, page.sessions):
                found[each] += 1
    return found


def digest(*parts: Any) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:16]


async def at_once(function: Callable[[T], Awaitable[R]], items: Iterable[T]) -> AsyncIterator[R]:
    """Return the results for items, in any order; some calls are in progress at a time."""

    async def call(item: T) -> R:
        return await function(item)

    tasks: set[asyncio.Task[R]] = set()
    for item in items:
        if len(tasks) == AT_ONCE:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                yield each.result()
        tasks.add(asyncio.create_task(call(item)))
    for each in tasks:
        yield await each
