"""``session-service repair``: saves the readable part of the embedded store's damaged files."""

import fcntl
import sys
from pathlib import Path

from session_service.settings import Settings
from session_service.store.embedded import appendonly
from session_service.store.embedded.appendonly import Entry, ManifestError
from session_service.store.embedded.program import EmbeddedServerError, find_binary


class _RepairError(Exception):
    """The data cannot be repaired; the message, one line, is for the operator."""


def run(settings: Settings, *, check_only: bool) -> int:
    """Repair the data directory, or only inspect it; return the exit code.

    0: the data can be loaded, perhaps after a repair. 1: something is damaged, and was only
    inspected or cannot be repaired. 2: there is nothing to repair here.
    """
    data_dir = settings.data_dir.absolute()
    if settings.redis_url is not None:
        return _fail("REDIS_URL is set: only the embedded store can be repaired", 2)
    if not (data_dir / appendonly.DIRECTORY).is_dir():
        return _fail(f"there are no data in {data_dir}: set SESSION_DATA_DIR", 2)
    try:
        binary = find_binary()
        with appendonly.open_private(data_dir / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _repair(data_dir, binary, check_only=check_only)
    except BlockingIOError:
        return _fail(f"the data in {data_dir} are in use by a running service: stop it first", 1)
    except OSError as error:
        return _fail(f"the data in {data_dir} cannot be used: {error.strerror}", 1)
    except (EmbeddedServerError, _RepairError) as error:
        return _fail(str(error), 1)


def _repair(data_dir: Path, binary: str, *, check_only: bool) -> int:
    """Repair the files in this order: the manifest, the snapshot, the commands."""
    stamp = appendonly.now()
    try:
        files = appendonly.entries(data_dir)
    except ManifestError as error:
        _print(f"{error}.")
        if check_only:
            return 1
        files = _rebuild(data_dir, stamp)
    _check_base(files, binary)
    damage = appendonly.find_damage(binary, files)
    if damage is not None:
        if check_only and damage.is_torn:
            _print(f"{damage.file.name} ends in half a write of {damage.lost:,} bytes, as after a")
            _print("power failure or in the copy of a running store. The next start cuts it off.")
            return 0
        share = damage.lost / damage.size
        _print(
            f"{damage.file.name}: {damage.lost:,} bytes of {damage.size:,} ({share:.1%}) cannot be"
            f" replayed, from byte {damage.sound:,} on."
        )
        if check_only:
            return 1
        _print(f"They are cut off, and kept in {appendonly.cut(damage, stamp)}.")
        for path in appendonly.set_aside(data_dir, files, damage.file, stamp):
            _print(f"The next file, {path.stat().st_size:,} bytes, is set aside as {path}.")
    _print(f"The data in {data_dir} can be loaded.")
    return 0


def _rebuild(data_dir: Path, stamp: str) -> list[Entry]:
    try:
        files = appendonly.rebuild_manifest(data_dir, stamp)
    except ManifestError as error:
        raise _RepairError(f"the manifest cannot be rebuilt: {error}; restore a backup") from error
    names = ", ".join(entry.file.name for entry in files)
    _print(f"The manifest was rebuilt from {names}.")
    if not any(entry.is_base for entry in files):
        _print("There is no snapshot: its data are lost.")
    return files


def _check_base(files: list[Entry], binary: str) -> None:
    if (base := appendonly.damaged_base(binary, files)) is not None:
        raise _RepairError(f"{base.name} is damaged and cannot be repaired: restore a backup")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code
