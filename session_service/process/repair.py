"""``session-service repair``: saves the readable part of the embedded store's damaged files."""

import fcntl
import sys
from collections.abc import Callable
from pathlib import Path

from session_service.output import print_json
from session_service.settings import Settings
from session_service.store.embedded import appendonly
from session_service.store.embedded.appendonly import Entry, ManifestError
from session_service.store.embedded.program import EmbeddedServerError, find_binary


class _RepairError(Exception):
    """The data cannot be repaired; the message, one line, is for the operator."""


# Prints a line for the operator.
_Say = Callable[[str], None]


def run(settings: Settings, *, check_only: bool, as_json: bool) -> int:
    """Repair the data directory, or only inspect it; return the exit code.

    0: the data can be loaded, perhaps after a repair. 1: something is damaged, and was only
    inspected or cannot be repaired. 2: there is nothing to repair here.
    """
    if not as_json:
        code, problem = _run(settings, _print, check_only=check_only)
        if problem:
            sys.stderr.write(f"{problem}\n")
        return code
    lines: list[str] = []
    code, problem = _run(settings, lines.append, check_only=check_only)
    print_json({"loadable": code == 0, "lines": lines, "problem": problem or None})
    return code


def _run(settings: Settings, say: _Say, *, check_only: bool) -> tuple[int, str]:
    """Return the exit code, and the problem if nothing was inspected, else ""."""
    data_dir = settings.data_dir.absolute()
    if settings.redis_url is not None:
        return 2, "REDIS_URL is set: only the embedded store can be repaired"
    if not (data_dir / appendonly.DIRECTORY).is_dir():
        return 2, f"there are no data in {data_dir}: set SESSION_DATA_DIR"
    try:
        binary = find_binary()
        with appendonly.open_private(data_dir / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _repair(data_dir, binary, say, check_only=check_only), ""
    except BlockingIOError:
        return 1, f"the data in {data_dir} are in use by a running service: stop it first"
    except OSError as error:
        return 1, f"the data in {data_dir} cannot be used: {error.strerror}"
    except (EmbeddedServerError, _RepairError) as error:
        return 1, str(error)


def _repair(data_dir: Path, binary: str, say: _Say, *, check_only: bool) -> int:
    """Repair the files in this order: the manifest, the snapshot, the commands."""
    stamp = appendonly.now()
    try:
        files = appendonly.entries(data_dir)
    except ManifestError as error:
        say(f"{error}.")
        if check_only:
            return 1
        files = _rebuild(data_dir, stamp, say)
    _check_base(files, binary)
    damage = appendonly.find_damage(binary, files)
    if damage is not None:
        if check_only and damage.is_torn:
            say(f"{damage.file.name} ends in half a write of {damage.lost:,} bytes, as after a")
            say("power failure or in the copy of a running store. The next start cuts it off.")
            return 0
        share = damage.lost / damage.size
        say(
            f"{damage.file.name}: {damage.lost:,} bytes of {damage.size:,} ({share:.1%}) cannot be"
            f" replayed, from byte {damage.sound:,} on."
        )
        if check_only:
            return 1
        say(f"They are cut off, and kept in {appendonly.cut(damage, stamp)}.")
        for path in appendonly.set_aside(data_dir, files, damage.file, stamp):
            say(f"The next file, {path.stat().st_size:,} bytes, is set aside as {path}.")
    say(f"The data in {data_dir} can be loaded.")
    return 0


def _rebuild(data_dir: Path, stamp: str, say: _Say) -> list[Entry]:
    try:
        files = appendonly.rebuild_manifest(data_dir, stamp)
    except ManifestError as error:
        raise _RepairError(f"the manifest cannot be rebuilt: {error}; restore a backup") from error
    names = ", ".join(entry.file.name for entry in files)
    say(f"The manifest was rebuilt from {names}.")
    if not any(entry.is_base for entry in files):
        say("There is no snapshot: its data are lost.")
    return files


def _check_base(files: list[Entry], binary: str) -> None:
    if (base := appendonly.damaged_base(binary, files)) is not None:
        raise _RepairError(f"{base.name} is damaged and cannot be repaired: restore a backup")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
