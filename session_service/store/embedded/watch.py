"""Watches the files and the socket of the embedded store while it runs.

A person may remove or move the data directory, and a cleaner of temporary files the socket's
folder. The server would not notice: it goes on writing into files that have no name any more.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from session_service.domain.budgets import STORE_LOOK_SECONDS
from session_service.store.embedded import appendonly
from session_service.store.embedded.directory import DataDirectory
from session_service.store.embedded.server import EmbeddedServer

_CALL_SECONDS = 5.0
_REWRITE_SECONDS = 600.0  # for the server to write all data again
_REPLACING_SECONDS = 0.2  # a rewrite replaces the manifest and the files one after the other

REMOVED = "the data directory of the embedded store was removed while it ran"
REPLACED = "the data directory of the embedded store was replaced while it ran"
SOCKET_REMOVED = "the socket of the embedded store was removed"
LOCKED = "another service has locked the data directory of the embedded store"

log = logging.getLogger(__name__)


class _Inodes(NamedTuple):
    """The inode numbers of a data directory; 0 for a path that does not exist."""

    directory: int
    files: int  # the folder of the append-only files
    lock: int

    @classmethod
    def of(cls, directory: DataDirectory) -> "_Inodes":
        path = directory.path
        return cls(_inode(path), _inode(path / appendonly.DIRECTORY), _inode(directory.lock_file))

    def has_same_folders(self, other: "_Inodes") -> bool:
        return (self.directory, self.files) == (other.directory, other.files)


class StoreWatch:
    """Watches one server. ``report`` is called with its problem, a sentence, or "" once solved."""

    def __init__(self, server: EmbeddedServer, report: Callable[[str], None]) -> None:
        self._server = server
        self._directory = server.directory
        self._report_problem = report
        self._client = _client(server)
        self._inodes = _Inodes.of(server.directory)
        self._problem = ""

    async def run(self) -> None:
        """Check the files every few seconds, and replace missing ones. Runs until cancelled."""
        try:
            while True:  # at once: it has to be connected before the socket can be removed
                try:
                    await self._check()
                except (RedisError, OSError) as error:  # the server may be restarting
                    log.debug("the embedded store cannot be checked", extra={"reason": str(error)})
                await asyncio.sleep(STORE_LOOK_SECONDS)
        finally:
            await self._client.aclose()

    async def _check(self) -> None:
        await self._client.ping()
        if not await self._has_files():
            await self._recreate()
        self._keep_lock()
        if not self._server.socket.exists():
            # Nothing is lost: the server writes its data out, and is started again.
            self._report(SOCKET_REMOVED, "starting it again")
            await self._server.shut_down()
            await self._reconnect()
        else:
            _touch(self._server.folder, self._server.socket)
        if self._problem and self._is_well():
            log.info("the problem of the embedded store is solved")
            self._problem = ""
            self._report_problem("")

    async def _has_files(self) -> bool:
        """Return whether the directory is the one the server writes to, with all its files."""
        if self._is_complete():
            return True
        await asyncio.sleep(_REPLACING_SECONDS)
        return self._is_complete()

    def _is_complete(self) -> bool:
        folders_are_same = _Inodes.of(self._directory).has_same_folders(self._inodes)
        return folders_are_same and _has_listed_files(self._directory)

    def _is_well(self) -> bool:
        return (
            self._server.socket.exists()
            and _Inodes.of(self._directory) == self._inodes
            and _has_listed_files(self._directory)
        )

    async def _recreate(self) -> None:
        """Make the directory again, and let the server write all its data into it."""
        path = self._directory.path
        is_other = not _Inodes.of(self._directory).has_same_folders(self._inodes)
        if is_other and appendonly.has_multipart_files(path):
            # Perhaps a backup that somebody wants to start from: it must not be overwritten.
            self._report(REPLACED, "its data are left alone; restart the service to use them")
            return
        self._report(REMOVED, "writing all data again")
        started = time.monotonic()
        self._directory.make()
        self._keep_lock()
        for name, value in (("dir", str(path)), ("appendonly", "no"), ("appendonly", "yes")):
            await self._client.config_set(name, value)
        async with asyncio.timeout(_REWRITE_SECONDS):
            while True:  # the server has no event for it
                if await self._is_written():
                    break
                await asyncio.sleep(0.1)
        self._inodes = _Inodes.of(self._directory)
        log.warning(
            "the embedded store has written all its data to the data directory again",
            extra={"directory": str(path), "seconds": round(time.monotonic() - started, 1)},
        )

    async def _is_written(self) -> bool:
        info: dict[str, Any] = await self._client.info("persistence")
        is_busy = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
        is_written = not is_busy and info["aof_last_bgrewrite_status"] == "ok"
        return is_written and _has_listed_files(self._directory)

    def _keep_lock(self) -> None:
        """Lock a new lock file if the one that the server has locked was removed."""
        found = _Inodes.of(self._directory)
        if self._problem == REPLACED or found.lock == self._inodes.lock:
            return
        try:
            self._directory.lock_again(self._server.socket)
        except BlockingIOError:
            self._report(LOCKED, "stop it: two would destroy the data")
        else:
            self._inodes = self._inodes._replace(lock=_Inodes.of(self._directory).lock)

    async def _reconnect(self) -> None:
        """Wait until the server is started again, and connect to it."""
        await self._client.aclose()
        self._client = _client(self._server)
        async with asyncio.timeout(_REWRITE_SECONDS):
            while True:
                with suppress(RedisError, OSError):
                    await self._client.ping()
                    break
                await asyncio.sleep(0.05)
        self._inodes = _Inodes.of(self._directory)

    def _report(self, problem: str, consequence: str) -> None:
        if self._problem != problem:
            log.error(
                "%s; %s", problem, consequence, extra={"directory": str(self._directory.path)}
            )
        self._problem = problem
        self._report_problem(problem)


def _client(server: EmbeddedServer) -> Redis:
    """Return a client with one connection, which still works if the socket's name is removed."""
    return Redis(
        unix_socket_path=str(server.socket),
        single_connection_client=True,
        socket_timeout=_CALL_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _has_listed_files(directory: DataDirectory) -> bool:
    """Return whether there is a manifest, and every file that it lists."""
    try:
        return bool(appendonly.entries(directory.path))
    except appendonly.ManifestError:
        return False


def _touch(*paths: Path) -> None:
    """Set the times of the socket to now: cleaners remove files that are ten days old."""
    for path in paths:
        os.utime(path)
