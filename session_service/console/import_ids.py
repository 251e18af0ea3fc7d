"""The file of an import: the new id of each session, or why there is none.

::

    {"import": {"version": 1, "id": "0a6f…", "exportId": "5b0c…"}}
    {"n": 0, "old": "c573…", "new": "5911…"}         n counts the sessions of the export from 0
    {"n": 1, "old": "c801…", "error": "VALIDATION_ERROR: …"}      is tried again by --resume
    {"n": 2, "old": "ca55…", "new": "3b11…", "sent": 7}           was interrupted, goes on there

The line of a session is written after its last message. ``id`` is random, and the requests of an
import have Idempotency-Keys that are made of it: what was in progress when it was killed, and has
no line, is repeated without a second effect for as long as the service remembers the keys.
"""

import os
import time
import uuid
from array import array
from pathlib import Path
from typing import IO
from zlib import crc32

import msgspec
from msgspec import UNSET, UnsetType

VERSION = 1
KEYS_HOURS = 23  # the service remembers an Idempotency-Key for 24, from its request

_DONE = 255
_SYNC_SECONDS = 1.0  # between writes to the disk: what a power failure takes is repeated, too


class Header(msgspec.Struct, rename="camel"):
    """Which import it is, and of which export."""

    version: int
    id: str
    export_id: str


class Result(msgspec.Struct, omit_defaults=True):
    """The result of a session; with ``new`` and ``error``, a message of it was refused."""

    n: int
    old: str
    new: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    sent: int | UnsetType = UNSET  # messages of a session that is not done


class _First(msgspec.Struct):
    header: Header = msgspec.field(name="import")


_decode = msgspec.json.Decoder(Result).decode


class Ids:
    """The results of an import so far: 8 bytes of memory for each session, and a file."""

    def __init__(self, file: IO[bytes] | None, export_id: str) -> None:
        """Read the file, or begin it. Raises ValueError if it belongs to another export."""
        self._file = file
        self._states = array("Q")  # checksum of the old id << 8 | failures, or _DONE
        self._synced = time.monotonic()
        self.begun: dict[int, Result] = {}
        self.incomplete = 0  # sessions that are done, and lack messages that were refused
        found = self._read(file, export_id) if file else None
        self.import_id = found or uuid.uuid4()
        if not found:
            self._write(_First(Header(VERSION, str(self.import_id), export_id)))
            self._sync()

    def is_done(self, n: int, old: str) -> bool:
        """Return whether the n-th session is done; raise ValueError if it was another before."""
        if n >= len(self._states) or not self._states[n]:
            return False
        checksum, state = divmod(self._states[n], 256)
        if checksum != crc32(old.encode()):
            raise ValueError(f"session {n} of the export, {old}, was another when the import began")
        return state == _DONE

    def failures(self, n: int) -> int:
        """Return how often a session that is not done has been refused."""
        return self._states[n] % 256 if n < len(self._states) else 0

    def add(self, result: Result) -> None:
        """Write the result of a session."""
        self._keep(result)
        self._write(result)
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def close(self) -> None:
        """Write everything to the disk."""
        self._sync()

    def _read(self, file: IO[bytes], export_id: str) -> uuid.UUID | None:
        file.seek(0)
        first = file.readline()
        if not first.endswith(b"\n"):  # nothing was done with it yet
            file.truncate(0)
            return None
        try:
            header = msgspec.json.decode(first, type=_First).header
        except msgspec.MsgspecError:
            raise ValueError("the file for ids is not that of an import") from None
        if header.export_id != export_id:
            raise ValueError("the file for ids is that of the import of another export")
        offset = len(first)
        for line in file:
            if not line.endswith(b"\n"):
                break
            self._keep(_decode(line))
            offset += len(line)
        file.truncate(offset)
        file.seek(0, os.SEEK_END)
        return uuid.UUID(header.id)

    def _keep(self, result: Result) -> None:
        n = result.n
        if n >= len(self._states):
            self._states.extend([0] * (n + 1 - len(self._states)))
        state = self._states[n] % 256
        self.begun.pop(n, None)
        if result.sent is not UNSET:
            self.begun[n] = result
        elif result.new is UNSET:
            state = min(state + 1, _DONE - 1)
        else:
            state = _DONE
            self.incomplete += result.error is not UNSET
        self._states[n] = crc32(result.old.encode()) << 8 | state

    def _write(self, line: msgspec.Struct) -> None:
        if self._file:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()

    def _sync(self) -> None:
        if self._file:
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def is_too_old(path: Path) -> bool:
    """Return whether the service may have forgotten the keys of an import's last requests."""
    return path.stat().st_mtime < time.time() - KEYS_HOURS * 3600
