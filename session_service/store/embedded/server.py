"""A store server that the service starts itself (docs/decisions/0004-embedded-store.md)."""

import asyncio
import logging
import os
import re
import shutil
import signal
import stat
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote

from session_service.store.embedded import memory
from session_service.store.embedded.appendonly import open_private
from session_service.store.embedded.directory import DataDirectory, name_socket
from session_service.store.embedded.program import (
    ALLOCATOR,
    GUARD,
    EmbeddedServerError,
    find_binary,
    huge_pages,
    is_modern,
)

_START_SECONDS = 10.0  # until the server replies, if only that it is loading
_LOAD_SECONDS = 300.0  # until it has loaded its data: about 100 MB a second
_STOP_SECONDS = 10.0  # the guard kills the server after 8
_MAX_ATTEMPTS = 5  # in a row; then the service stops instead of trying forever
_STABLE_SECONDS = 10.0  # a server that ran for this long is started again without delay

log = logging.getLogger(__name__)


class _NotStartedError(EmbeddedServerError):
    """The server was started, and has ended or does not reply."""


class EmbeddedServer:
    """A Valkey or Redis server that lives with this process and keeps its data in a directory.

    It uses at most ``max_memory`` bytes: by default half of the memory of the machine or container,
    0 for no limit. ``url``, e.g. ``unix:///tmp/session-service-x1/store.sock``, stays the same when
    the server is started again. Raises EmbeddedServerError if no server program is installed.
    """

    def __init__(self, data_dir: Path, max_memory: int | None = None) -> None:
        self.directory = DataDirectory(data_dir)
        self.max_memory = memory.available() // 2 if max_memory is None else max_memory
        self._binary = find_binary()
        self.is_modern = is_modern(self._binary)
        self.folder = Path(_private_folder())
        self.socket = self.folder / "store.sock"
        self._guard: asyncio.subprocess.Process | None = None
        self._pipe: int | None = None  # to the guard; the system closes it if this process ends
        self.url = f"unix://{quote(str(self.socket))}"
        self.description = f"embedded {Path(self._binary).name}"

    async def start(self) -> None:
        """Start the server and wait for its reply: 10 s, or 300 s if it has much to load.

        If the last write of a file was cut off, as by a power failure, the file is shortened to the
        commands before it first. Raises EmbeddedServerError if the server does not start, or the
        data directory cannot be used.
        """
        await self.shut_down()  # a server whose guard was killed
        try:
            self.directory.make()
            self._make_folder()
            await self._start()
        except _NotStartedError:
            if not await self.directory.repair(self._binary):
                raise
            await self._start()
        except OSError as error:
            raise EmbeddedServerError(
                f"the data directory {self.directory.path} cannot be used: {error.strerror};"
                " set SESSION_DATA_DIR"
            ) from error

    async def _start(self) -> None:
        guard, log_size = await self._spawn()
        started, limit = time.monotonic(), _START_SECONDS
        while not (reply := await self._query("PING", "INFO server")).startswith("+PONG"):
            if reply.startswith("-LOADING"):
                limit = _LOAD_SECONDS
            if guard.returncode is not None or time.monotonic() - started > limit:
                await self.shut_down()
                raise _NotStartedError(
                    f"the embedded store does not start: {self._last_log_lines(log_size)}"
                    f" ({self.directory.log_file})"
                )
            await asyncio.sleep(0.005)
        name = "Valkey" if "valkey_version:" in reply else "Redis"  # Valkey has redis_version, too
        version = re.search(rf"{name.lower()}_version:(\S+)", reply)
        self.description = f"embedded {name} {version[1] if version else ''}"

    def _last_log_lines(self, start: int) -> str:
        """Return the last two lines that the server logged after a position in its log file."""
        text = self.directory.log_file.read_bytes()[start:].decode(errors="replace")
        lines = "; ".join(line.strip() for line in text.strip().splitlines()[-2:])
        return lines or "no reason given"

    def _make_folder(self) -> None:
        """Make the socket's folder again if something has removed it."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise EmbeddedServerError(f"another user has made {self.folder}; restart the service")

    async def stop(self) -> None:
        """Stop the server for good, which writes its data out: after 10 s by force."""
        await self.shut_down()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.directory.release()

    async def supervise(self) -> None:
        """Start the server again whenever it ends. Ends by cancellation, before ``stop``.

        Raises EmbeddedServerError if five attempts in a row fail.
        """
        delay = 0.0
        while self._guard is not None:
            started = time.monotonic()
            status = await self._guard.wait()
            if time.monotonic() - started > _STABLE_SECONDS:
                delay = 0.0
            log.error("embedded store ended; starting it again", extra={"status": status})
            if not self.directory.has_files and self.is_modern:
                log.error("its data directory was removed before: all sessions are lost")
            for attempt in range(1, _MAX_ATTEMPTS + 1):
                await asyncio.sleep(delay)
                delay = min(0.1 + 2 * delay, 2.0)
                try:
                    await self.start()
                    break
                except EmbeddedServerError as error:
                    if attempt == _MAX_ATTEMPTS:
                        raise
                    log.warning("embedded store does not start", extra={"problem": str(error)})

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, int]:
        """Start the guard; return it with the size of the server's log before."""
        with ExitStack() as stack:
            self.directory.release()
            lock = stack.enter_context(open_private(self.directory.lock_file))
            await self.directory.lock(lock.fileno())
            name_socket(lock.fileno(), self.socket)
            self.directory.entries()  # with an incomplete manifest the server might start empty
            log_file = stack.enter_context(open_private(self.directory.log_file))
            log_size = log_file.tell()
            guard_end, self._pipe = os.pipe()
            stack.callback(os.close, guard_end)
            self._guard = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", GUARD, "session-service-store", str(self.folder), self._binary,
                *self._options(),
                env={**os.environ, **ALLOCATOR},
                stdin=guard_end,
                stdout=lock,  # locked for as long as the server lives
                stderr=log_file,
                start_new_session=True,  # a terminal's Ctrl-C is for the service
            )  # fmt: skip
        return self._guard, log_size

    def _options(self) -> list[str]:
        data_dir, log_file = str(self.directory.path), str(self.directory.log_file)
        options = [
            "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", data_dir, "--appendonly", "yes", "--appendfsync", "everysec",
            "--save", "", "--maxmemory", str(self.max_memory), "--maxmemory-policy", "noeviction",
            "--daemonize", "no", "--logfile", log_file, "--loglevel", "notice",
        ]  # fmt: skip
        if self.is_modern:  # the service cuts files itself, with a copy; and sets dir (watch.py)
            options += ["--aof-load-truncated", "no", "--enable-protected-configs", "local"]
            options += huge_pages()
        return options

    async def shut_down(self) -> None:
        """Stop the server, which writes its data out; ``supervise`` starts it again."""
        if self._pipe is not None:
            with suppress(BrokenPipeError):  # the guard has ended already
                os.write(self._pipe, b"\n")
            os.close(self._pipe)
            self._pipe = None
        if self._guard is not None:
            try:
                await asyncio.wait_for(self._guard.wait(), _STOP_SECONDS)
            except TimeoutError:
                log.warning("embedded store does not stop; killing it")
                os.killpg(self._guard.pid, signal.SIGKILL)
                await self._guard.wait()

    async def _query(self, *commands: str) -> str:
        """Return the server's replies to inline commands, or "" if none come within 1 s.

        E.g. ``PING`` returns ``+PONG`` and the reply to ``QUIT``, ``+OK``, each on its line.
        """
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
                try:
                    writer.write("\r\n".join([*commands, "QUIT", ""]).encode())
                    return (await reader.read()).decode()
                finally:
                    writer.close()
                    await writer.wait_closed()
        except OSError:  # TimeoutError is one
            return ""


def _private_folder() -> str:
    """Make the folder of the socket, whose path macOS limits to 103 bytes.

    Raises EmbeddedServerError if that is not possible, e.g. with a read-only file system.
    """
    try:
        parent = tempfile.gettempdir()
        if len(os.fsencode(parent)) > 64:
            parent = "/tmp"  # noqa: S108 - mkdtemp takes a free name in it
        return tempfile.mkdtemp(prefix="session-service-", dir=parent)
    except OSError as error:
        raise EmbeddedServerError(
            f"there is no folder for the socket of the embedded store: {error.strerror};"
            " set TMPDIR to one that the service can write to"
        ) from error
