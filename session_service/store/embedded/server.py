"""A store server of our own, where no other is given (docs/decisions/0004-embedded-store.md)."""

import asyncio
import fcntl
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

from session_service.store.embedded import appendonly, memory
from session_service.store.embedded.appendonly import ManifestError, open_private
from session_service.store.embedded.program import (
    ALLOCATOR,
    GUARD,
    EmbeddedServerError,
    find_binary,
    is_modern,
)

_START_SECONDS = 10.0  # until the server answers, or says that it is loading
_LOAD_SECONDS = 300.0  # until it has loaded its data: about 100 MB a second
_STOP_SECONDS = 10.0  # the guard uses force after 8
_LOCK_SECONDS = 10.0  # a server whose service was killed needs a moment to end
_LOCK_LOG_SECONDS = 1.0  # until a line says that the directory is waited for
_MAX_ATTEMPTS = 5  # in a row; then the service stops rather than to try forever
_STABLE_SECONDS = 10.0  # a server that lived this long is started again without delay

log = logging.getLogger(__name__)


class _NotStartedError(EmbeddedServerError):
    """The server was started, and has ended or does not answer."""


class EmbeddedServer:
    """A Valkey or Redis server that lives with this process and keeps its data in a directory.

    It takes at most ``max_memory`` bytes: half of what there is by default, 0 for no limit. ``url``
    stays the same when it is started again. Raises EmbeddedServerError if there is no server.
    """

    def __init__(self, data_dir: Path, max_memory: int | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.max_memory = memory.available() // 2 if max_memory is None else max_memory
        self._log_file = self.data_dir / "store.log"
        self._binary = find_binary()
        self.is_modern = is_modern(self._binary)
        self.folder = Path(_private_folder())
        self.socket = self.folder / "store.sock"
        self._guard: asyncio.subprocess.Process | None = None
        self._pipe: int | None = None  # to the guard; ends with this process
        self._lock: int | None = None  # a lock file that this process holds instead of the server
        self.url = f"unix://{quote(str(self.socket))}"
        self.description = f"embedded {Path(self._binary).name}"

    async def start(self) -> None:
        """Return when the server answers: within 10 s, or 300 s if it has much to load.

        A file whose last write was cut off, as by a power failure, is cut off there first. Raises
        EmbeddedServerError if the server does not start, or the data directory cannot be used.
        """
        await self.end()  # of a server whose guard was killed
        try:
            self._make_folders()
            await self._start()
        except _NotStartedError:
            if not await self._mend():
                raise
            await self._start()
        except OSError as error:
            raise EmbeddedServerError(
                f"the data directory {self.data_dir} cannot be used: {error.strerror};"
                " set SESSION_DATA_DIR"
            ) from error

    def warn_if_exposed(self) -> None:
        """Log if others on this machine can read the data; all conversations are in them."""
        if paths := [str(path) for path in appendonly.exposed(self.data_dir)]:
            log.warning(
                "others on this machine can read the data directory, which has all sessions:"
                " chmod -R go= keeps it to the service's user",
                extra={"paths": paths[:10]},
            )

    async def _start(self) -> None:
        guard, log_size = await self._spawn()
        started, bound = time.monotonic(), _START_SECONDS
        socket = str(self.socket)
        while not (answer := await _ask(socket, "PING", "INFO server")).startswith("+PONG"):
            if answer.startswith("-LOADING"):
                bound = _LOAD_SECONDS
            if guard.returncode is not None or time.monotonic() - started > bound:
                await self.end()
                said = self._log_file.read_bytes()[log_size:].decode(errors="replace")
                gist = "; ".join(line.strip() for line in said.strip().splitlines()[-2:])
                raise _NotStartedError(
                    f"the embedded store does not start: {gist or 'no reason given'}"
                    f" ({self._log_file})"
                )
            await asyncio.sleep(0.005)
        name = "Valkey" if "valkey_version:" in answer else "Redis"  # Valkey has redis_version, too
        version = re.search(rf"{name.lower()}_version:(\S+)", answer)
        self.description = f"embedded {name} {version[1] if version else ''}"

    def _make_folders(self) -> None:
        """Make the data directory, and the socket's, which something may have removed."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise EmbeddedServerError(f"another user has made {self.folder}; restart the service")

    async def _mend(self) -> bool:
        """Cut off what a power failure left at the end of the data; tell whether there was any.

        Raises EmbeddedServerError if more than that is damaged.
        """
        with open_private(self.data_dir / "lock") as lock:
            await self._take(lock.fileno())
            try:
                files = appendonly.entries(self.data_dir)
                damage = await asyncio.to_thread(appendonly.find_damage, self._binary, files)
                base = await asyncio.to_thread(appendonly.damaged_base, self._binary, files)
            except ManifestError as error:
                raise EmbeddedServerError(damaged(self.data_dir, str(error))) from error
            if base is not None:
                raise EmbeddedServerError(damaged(self.data_dir, base.name))
            if damage is None:
                return False
            if not damage.is_torn:
                where = f"{damage.file.name} at byte {damage.sound:,} of {damage.size:,}"
                raise EmbeddedServerError(damaged(self.data_dir, where))
            kept = appendonly.cut(damage, appendonly.now())
        log.warning(
            "the embedded store's file ended in half a write, as after a power failure;"
            " it was cut off there, and the rest is kept",
            extra={"file": str(damage.file), "bytes": damage.lost, "kept": str(kept)},
        )
        return True

    async def stop(self) -> None:
        """End the server, which writes its data out, and wait for it, 10 s at most; for good."""
        await self.end()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    async def supervise(self) -> None:
        """Start the server again whenever it dies. Ends by cancellation, which precedes stop().

        Raises EmbeddedServerError where it cannot be started five times in a row.
        """
        delay = 0.0
        while self._guard is not None:
            started = time.monotonic()
            status = await self._guard.wait()
            if time.monotonic() - started > _STABLE_SECONDS:
                delay = 0.0
            log.error("embedded store ended; starting it again", extra={"status": status})
            if not (self.data_dir / appendonly.DIRECTORY).exists() and self.is_modern:
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
                    log.warning("embedded store", extra={"problem": str(error)})

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, int]:
        """Start the guard; also gives the size of the log before."""
        with ExitStack() as stack:
            self._release()
            lock = stack.enter_context(open_private(self.data_dir / "lock"))
            await self._take(lock.fileno())
            try:
                appendonly.entries(self.data_dir)  # else the server may start empty
            except ManifestError as error:
                raise EmbeddedServerError(damaged(self.data_dir, str(error))) from error
            log_file = stack.enter_context(open_private(self._log_file))
            log_size = log_file.tell()
            theirs, self._pipe = os.pipe()
            stack.callback(os.close, theirs)
            self._guard = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", GUARD, "session-service-store", str(self.folder), self._binary,
                *self._options(),
                env={**os.environ, **ALLOCATOR},
                stdin=theirs,
                stdout=lock,  # locked for as long as the server lives
                stderr=log_file,
                start_new_session=True,  # a terminal's Ctrl-C is for the service
            )  # fmt: skip
        return self._guard, log_size

    def _options(self) -> list[str]:
        options = [
            "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.data_dir), "--appendonly", "yes", "--appendfsync", "everysec",
            "--save", "", "--maxmemory", str(self.max_memory), "--maxmemory-policy", "noeviction",
            "--daemonize", "no", "--logfile", str(self._log_file), "--loglevel", "notice",
        ]  # fmt: skip
        if self.is_modern:  # files are cut off here, with a copy; dir may be set while it runs
            options += ["--aof-load-truncated", "no", "--enable-protected-configs", "local"]
        return options

    async def _take(self, lock: int) -> None:
        """Lock the data directory: two servers would destroy it."""
        started = time.monotonic()
        is_logged = False
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waited = time.monotonic() - started
                if waited > _LOCK_SECONDS:
                    raise EmbeddedServerError(
                        f"the data directory {self.data_dir} is in use by another running"
                        " service; stop it, or set SESSION_DATA_DIR"
                    ) from None
                if waited > _LOCK_LOG_SECONDS and not is_logged:
                    is_logged = True
                    log.warning(
                        "another service uses the data directory; waiting for it to end",
                        extra={"directory": str(self.data_dir), "seconds": _LOCK_SECONDS},
                    )
            await asyncio.sleep(0.05)

    def lock_again(self) -> None:
        """Lock the data directory by a new lock file, if the server's was removed.

        Raises BlockingIOError if another service was quicker.
        """
        self._release()
        lock = os.open(self.data_dir / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def end(self) -> None:
        """End the server, which writes its data out; whoever supervises it starts it again."""
        if self._pipe is not None:
            with suppress(BrokenPipeError):  # nobody is left to be asked
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


async def _ask(socket: str, *commands: str) -> str:
    """Ask the server; its replies in a row, or nothing where it does not answer within 1 s."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write("\r\n".join([*commands, "QUIT", ""]).encode())
                return (await reader.read()).decode()
            finally:
                writer.close()
                await writer.wait_closed()
    except OSError:  # TimeoutError is one
        return ""


def damaged(data_dir: Path, what: str) -> str:
    """Say in one line that the data are damaged, and what helps."""
    return (
        f"the data in {data_dir} are damaged: {what}; `session-service repair` keeps what can be"
        " read (docs/operating.md, Repair)"
    )


def _private_folder() -> str:
    """Make the folder of the socket, whose path macOS limits to 103 bytes."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > 64:
        parent = "/tmp"  # noqa: S108 - mkdtemp takes a free name in it
    return tempfile.mkdtemp(prefix="session-service-", dir=parent)
