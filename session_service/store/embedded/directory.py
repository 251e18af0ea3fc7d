"""The data directory of the embedded store: made, locked, and repaired after a power failure."""

import asyncio
import fcntl
import logging
import os
import time
from pathlib import Path

from session_service.store.embedded import appendonly
from session_service.store.embedded.appendonly import Damage, Entry, ManifestError, open_private
from session_service.store.embedded.program import EmbeddedServerError

_LOCK_SECONDS = 10.0  # a server whose service was killed needs a moment to end
_LOCK_LOG_SECONDS = 1.0  # until a line says that the directory is locked by another service

log = logging.getLogger(__name__)


class DataDirectory:
    """A directory with the files of one embedded store, which the service's user alone can read.

    ``lock`` in it is the lock file: two servers on one directory would destroy the data. While it
    is locked, it has the path of the server's socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock_file = self.path / "lock"
        self.log_file = self.path / "store.log"
        self._lock: int | None = None  # a lock file that this process holds instead of the server

    def make(self) -> None:
        """Make the directory if it does not exist; raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def has_files(self) -> bool:
        """Whether the folder of the append-only files exists."""
        return (self.path / appendonly.DIRECTORY).exists()

    def entries(self) -> list[Entry]:
        """Return the files of the manifest; raises EmbeddedServerError if they are incomplete."""
        try:
            return appendonly.entries(self.path)
        except ManifestError as error:
            raise self._damaged(str(error)) from error

    def warn_if_exposed(self) -> None:
        """Log if others on this machine can read the data, which are all conversations."""
        if paths := [str(path) for path in appendonly.exposed(self.path)]:
            log.warning(
                "others on this machine can read the data directory, which has all sessions:"
                " chmod -R go= keeps it to the service's user",
                extra={"paths": paths[:10]},
            )

    async def lock(self, file: int) -> None:
        """Lock an open lock file, and wait up to 10 s for that; raises EmbeddedServerError."""
        started = time.monotonic()
        is_logged = False
        while True:
            try:
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waited = time.monotonic() - started
                if waited > _LOCK_SECONDS:
                    raise EmbeddedServerError(
                        f"the data directory {self.path} is in use by another running"
                        " service; stop it, or set SESSION_DATA_DIR"
                    ) from None
                if waited > _LOCK_LOG_SECONDS and not is_logged:
                    is_logged = True
                    log.warning(
                        "another service uses the data directory; waiting for it to end",
                        extra={"directory": str(self.path), "seconds": _LOCK_SECONDS},
                    )
            await asyncio.sleep(0.05)

    def socket(self) -> str | None:
        """Return the path of the socket of the server that runs, or None if none does."""
        try:
            with self.lock_file.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return next(iter(self.lock_file.read_text().splitlines()), None)
        except FileNotFoundError:
            pass
        return None

    def lock_again(self, socket: Path) -> None:
        """Lock a new lock file, if the one that the server has locked was removed.

        Raises BlockingIOError if another service has locked it first.
        """
        self.release()
        lock = os.open(self.lock_file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise
        name_socket(lock, socket)
        self._lock = lock

    def release(self) -> None:
        """Release the lock of ``lock_again``, if there is one."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def repair(self, binary: str) -> bool:
        """Cut off a half-written command at the end of the data; return whether there was one.

        A power failure leaves one. Raises EmbeddedServerError if more than that is damaged.
        """
        with open_private(self.lock_file) as lock:
            await self.lock(lock.fileno())
            files = self.entries()
            damage = await asyncio.to_thread(appendonly.find_damage, binary, files)
            base = await asyncio.to_thread(appendonly.damaged_base, binary, files)
            if base is not None:
                raise self._damaged(base.name)
            if damage is None:
                return False
            if not damage.is_torn:
                raise self._damaged(
                    f"{damage.file.name} at byte {damage.sound:,} of {damage.size:,}"
                )
            self._cut(damage)
        return True

    def _cut(self, damage: Damage) -> None:
        kept = appendonly.cut(damage, appendonly.now())
        log.warning(
            "the embedded store's file ended in half a write, as after a power failure;"
            " it was cut off there, and the rest is kept",
            extra={"file": str(damage.file), "bytes": damage.lost, "kept": str(kept)},
        )

    def _damaged(self, damage: str) -> EmbeddedServerError:
        return EmbeddedServerError(
            f"the data in {self.path} are damaged: {damage}; `session-service repair` keeps what"
            " can be read (docs/backup.md, Repair)"
        )


def name_socket(lock: int, socket: Path) -> None:
    """Write the path of the server's socket to an open lock file, for ``DataDirectory.socket``."""
    os.ftruncate(lock, 0)
    os.write(lock, f"{socket}\n".encode())
