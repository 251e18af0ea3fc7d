"""Copies the append-only files of the embedded store, while it runs or not.

The files are opened, and the manifest is read before and after: if it is the same, they belong
together, and stay readable even if the server replaces them. Of the last file, the bytes that it
had at that moment are copied; half a command at its end is cut off.
"""

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

from session_service.store.embedded import appendonly
from session_service.store.embedded.appendonly import ManifestError, open_private

_ATTEMPTS = 50  # to read the files between two rewrites, each of which replaces them for 0.1 s
_PAUSE_SECONDS = 0.1
_BLOCK_BYTES = 1 << 20


class BackupError(Exception):
    """There is no copy; the message, one line, is for the operator."""


class Copied(NamedTuple):
    """A copy that was verified."""

    files: int
    size: int  # bytes
    cut: int  # bytes of half a write at the end, which are not part of the copy


class _Source(NamedTuple):
    file: BinaryIO
    name: str
    size: int  # when the copy began


def copy_data(data_dir: Path, target: Path, binary: str) -> Copied:
    """Copy the data in a directory to a new one, which appears only when it is complete.

    Only the user of the process can read it. ``binary`` is the server, which verifies it. Raises
    BackupError, and OSError.
    """
    if target.exists() or target.is_symlink():
        raise BackupError(f"{target} exists already: a backup overwrites nothing")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    with ExitStack() as stack:
        sources = _open(data_dir, stack)
        size = sum(source.size for source in sources)
        free = shutil.disk_usage(target.parent).free
        if free < size:
            raise BackupError(
                f"{target.parent} has {free / 2**20:,.0f} MiB free; the data have"
                f" {size / 2**20:,.0f} MiB"
            )
        partial.mkdir(mode=0o700)
        try:
            folder = partial / appendonly.DIRECTORY
            folder.mkdir(mode=0o700)
            for source in sources:
                _copy(source, folder / source.name)
            cut = _verify(partial, binary)
            for path in (folder, partial):
                _flush(path)
            partial.rename(target)
            _flush(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Copied(len(sources), size - cut, cut)


def _open(data_dir: Path, stack: ExitStack) -> list[_Source]:
    """Open the manifest and the files that it lists, while it does not change."""
    manifest = data_dir / appendonly.DIRECTORY / appendonly.MANIFEST
    for _ in range(_ATTEMPTS):
        with ExitStack() as attempt:
            try:
                before = manifest.read_bytes()
                paths = [entry.file for entry in appendonly.entries(data_dir)]
                files = [attempt.enter_context(path.open("rb")) for path in (manifest, *paths)]
                sizes = [os.fstat(file.fileno()).st_size for file in files]
                is_unchanged = manifest.read_bytes() == before
            except FileNotFoundError:
                is_unchanged = False
            except ManifestError as error:
                raise BackupError(f"the data are damaged: {error}; see `repair`") from error
            if is_unchanged:
                stack.push(attempt.pop_all())
                names = (manifest.name, *(path.name for path in paths))
                return [_Source(*each) for each in zip(files, names, sizes, strict=True)]
        time.sleep(_PAUSE_SECONDS)
    raise BackupError(f"the files in {manifest.parent} change all the time; try again")


def _copy(source: _Source, to: Path) -> None:
    left = source.size
    with open_private(to) as file:
        while left and (block := source.file.read(min(left, _BLOCK_BYTES))):
            file.write(block)
            left -= len(block)
        file.flush()
        os.fsync(file.fileno())
    if left:
        raise BackupError(f"{source.name} became shorter while it was copied; try again")


def _verify(folder: Path, binary: str) -> int:
    """Cut off half a write at the end; return its bytes. Raises BackupError for other damage."""
    files = appendonly.entries(folder)
    damage = appendonly.find_damage(binary, files)
    base = appendonly.damaged_base(binary, files)
    if base is not None or (damage is not None and not damage.is_torn):
        name = base.name if base else damage.file.name if damage else ""
        raise BackupError(f"the data are damaged: {name}; see `session-service repair --check`")
    if damage is None:
        return 0
    with damage.file.open("r+b") as file:
        file.truncate(damage.sound)
        os.fsync(file.fileno())
    return damage.lost


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
