"""Watches over the embedded store while it runs: its files and its socket.

Somebody may remove or move the data directory, and cleaners of temporary files may remove the
socket's. The server would not notice: it writes on into files that have no name any more.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from session_service.domain.budgets import STORE_LOOK_SECONDS
from session_service.store.embedded import appendonly
from session_service.store.embedded.server import EmbeddedServer

_CALL_SECONDS = 5.0
_REWRITE_SECONDS = 600.0  # for all data to be written anew

REMOVED = "the data directory of the embedded store was removed while it ran"
REPLACED = "the data directory of the embedded store was replaced while it ran"
SOCKET_REMOVED = "the socket of the embedded store was removed"
LOCKED = "another service has locked the data directory of the embedded store"

log = logging.getLogger(__name__)


class StoreWatch:
    """Looks after one server, and tells what is wrong with it: a sentence, or "" if it is well."""

    def __init__(self, server: EmbeddedServer, tell: Callable[[str], None]) -> None:
        self._server = server
        self._tell = tell
        self._client = _client(server)
        self._files = _identity(server.data_dir)
        self._problem = ""

    async def run(self) -> None:
        """Look every few seconds, and repair what can be repaired. Ends by cancellation."""
        try:
            while True:  # at once: the connection has to be there before the socket has gone
                try:
                    await self._look()
                except (RedisError, OSError) as error:  # the server may be restarting
                    log.debug(
                        "the embedded store cannot be looked at", extra={"reason": str(error)}
                    )
                await asyncio.sleep(STORE_LOOK_SECONDS)
        finally:
            await self._client.aclose()

    async def _look(self) -> None:
        await self._client.ping()
        if not await self._are_files_there():
            await self._recreate()
        self._keep_lock()
        if not self._server.socket.exists():
            # Nothing is lost: the server writes its data out, and is started again.
            self._report(SOCKET_REMOVED, "starting it again")
            await self._server.end()
            await self._reconnect()
        else:
            _keep_from_cleaners(self._server.folder, self._server.socket)
        if self._problem and self._is_well():
            log.info("the embedded store is well again")
            self._problem = ""
            self._tell("")

    async def _are_files_there(self) -> bool:
        if _identity(self._server.data_dir)[:2] == self._files[:2] and _is_listed(self._server):
            return True
        await asyncio.sleep(0.2)  # a rewrite may have replaced files between two glances
        return _identity(self._server.data_dir)[:2] == self._files[:2] and _is_listed(self._server)

    def _is_well(self) -> bool:
        return (
            self._server.socket.exists()
            and _identity(self._server.data_dir) == self._files
            and _is_listed(self._server)
        )

    async def _recreate(self) -> None:
        """Make the directory anew, and have the server write all it has into it."""
        data_dir = self._server.data_dir
        is_other = _identity(data_dir)[:2] != self._files[:2]
        if is_other and appendonly.has_multipart_files(data_dir):
            # Perhaps a backup that somebody wants to start from: not ours to write over.
            self._report(REPLACED, "its data are left alone; restart the service to use them")
            return
        self._report(REMOVED, "writing all data anew")
        started = time.monotonic()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep_lock()
        for name, value in (("dir", str(data_dir)), ("appendonly", "no"), ("appendonly", "yes")):
            await self._client.config_set(name, value)
        async with asyncio.timeout(_REWRITE_SECONDS):
            while True:  # the server has no event for it
                if await self._is_written():
                    break
                await asyncio.sleep(0.1)
        self._files = _identity(data_dir)
        log.warning(
            "the embedded store has written all its data to the data directory anew",
            extra={"directory": str(data_dir), "seconds": round(time.monotonic() - started, 1)},
        )

    async def _is_written(self) -> bool:
        found: dict[str, Any] = await self._client.info("persistence")
        busy = found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]
        return not busy and found["aof_last_bgrewrite_status"] == "ok" and _is_listed(self._server)

    def _keep_lock(self) -> None:
        """Take the lock again if its file was removed, which the server has locked."""
        if self._problem == REPLACED or _identity(self._server.data_dir)[2] == self._files[2]:
            return
        try:
            self._server.lock_again()
        except BlockingIOError:
            self._report(LOCKED, "stop it: two would destroy the data")
        else:
            self._files = (*self._files[:2], _identity(self._server.data_dir)[2])

    async def _reconnect(self) -> None:
        """Wait until the server is back, which is supervised, and watch over it."""
        await self._client.aclose()
        self._client = _client(self._server)
        async with asyncio.timeout(_REWRITE_SECONDS):
            while True:
                with suppress(RedisError, OSError):
                    await self._client.ping()
                    break
                await asyncio.sleep(0.05)
        self._files = _identity(self._server.data_dir)

    def _report(self, problem: str, what_follows: str) -> None:
        if self._problem != problem:
            log.error(
                "%s; %s", problem, what_follows, extra={"directory": str(self._server.data_dir)}
            )
        self._problem = problem
        self._tell(problem)


def _client(server: EmbeddedServer) -> Redis:
    """Make a client that keeps one connection, which works when the socket has no name."""
    return Redis(
        unix_socket_path=str(server.socket),
        single_connection_client=True,
        socket_timeout=_CALL_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _identity(data_dir: Path) -> tuple[int, int, int]:
    """Return the numbers of the directories and of the lock file; 0 for what is not there."""
    return (
        _inode(data_dir),
        _inode(data_dir / appendonly.DIRECTORY),
        _inode(data_dir / "lock"),
    )


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _is_listed(server: EmbeddedServer) -> bool:
    """Tell whether the manifest and all files that it lists are there."""
    try:
        return bool(appendonly.entries(server.data_dir))
    except appendonly.ManifestError:
        return False


def _keep_from_cleaners(*paths: Path) -> None:
    """Make the socket look used: cleaners of temporary files remove what is ten days old."""
    for path in paths:
        os.utime(path)
