"""The append-only files of the embedded store: finds damage, and saves the rest.

``appendonlydir`` has a base file, which is a snapshot, and one or more incremental files with the
commands since then. The manifest lists them in order, one a line, e.g.
``file appendonly.aof.1.base.rdb seq 1 type b``. After a power failure the last file may end in half
a command, in zeros or in garbage. A server does not start with such a file.

The server's own checker (the same program under another name) finds the end of the sound part. It
checks one incremental file at a time: it does not recognise Valkey's base files, and would repair
them to nothing.
"""

import mmap
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

DIRECTORY = "appendonlydir"
_NAME = "appendonly.aof"
MANIFEST = f"{_NAME}.manifest"
_EMPTY_BASE_BYTES = 150  # a snapshot of nothing has about 90

_ENTRY = re.compile(r"file (\S+) seq (\d+) type ([bhi])(?: .*)?")
_FILE = re.compile(rf"{re.escape(_NAME)}\.(\d+)\.(base|incr)\.(?:rdb|aof)")
_SOUND = re.compile(r"\bok_up_to=(\d+)")
_ARRAY = re.compile(rb"\*([1-9]\d{0,6})\r\n")
_BULK = re.compile(rb"\$(\d{1,9})\r\n")


class ManifestError(Exception):
    """The manifest does not list the files of the data; the message is the reason."""


class Entry(NamedTuple):
    """A file of the manifest, e.g. ``appendonly.aof.2.incr.aof`` with the number 2."""

    file: Path
    number: int
    is_base: bool


class Damage(NamedTuple):
    """An incremental file of which only a part, at its start, is sound. Sizes in bytes."""

    file: Path
    size: int
    sound: int  # of the part with whole commands and whole transactions
    is_torn: bool  # no whole command follows: the last write was cut off

    @property
    def lost(self) -> int:
        """How many bytes are not sound."""
        return self.size - self.sound


def has_multipart_files(folder: Path) -> bool:
    """Return whether a data directory has files with data, listed in a manifest or not."""
    sizes = [(entry.is_base, entry.file.stat().st_size) for entry in _files_in(folder / DIRECTORY)]
    return any(size > (_EMPTY_BASE_BYTES if is_base else 0) for is_base, size in sizes)


def entries(folder: Path) -> list[Entry]:
    """Read the manifest of a data directory; return nothing if there are no data yet.

    Raises ManifestError if it is missing, cannot be read, or lists a file that does not exist. (A
    server without a manifest starts empty, and overwrites the files.)
    """
    manifest = folder / DIRECTORY / MANIFEST
    try:
        lines = manifest.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        if has_multipart_files(folder):
            raise ManifestError(f"{MANIFEST} is missing") from None
        return []
    found = []
    for line in lines:
        match = _ENTRY.fullmatch(line)
        if not match:
            raise ManifestError(f"{MANIFEST} cannot be read")
        if match[3] != "h":  # h: history, replaced and about to be deleted
            found.append(Entry(manifest.parent / match[1], int(match[2]), match[3] == "b"))
    if not found:
        raise ManifestError(f"{MANIFEST} is empty")
    for entry in found:
        if not entry.file.exists():
            raise ManifestError(f"{entry.file.name} is missing")
    return found


def _files_in(directory: Path) -> list[Entry]:
    """Return the files with names of data files, the base first, without regard to a manifest."""
    found = [
        Entry(file, int(match[1]), match[2] == "base")
        for file in directory.glob(f"{_NAME}.*")
        if (match := _FILE.fullmatch(file.name))
    ]
    return sorted(found, key=lambda entry: (not entry.is_base, entry.number))


def rebuild_manifest(folder: Path, stamp: str) -> list[Entry]:
    """Write a manifest for the files that exist; keep the old one beside it.

    ``stamp`` is part of the old one's new name. Raises ManifestError if the names of the files do
    not show which of them belong together: there are two bases, or a number is missing.
    """
    manifest = folder / DIRECTORY / MANIFEST
    found = _files_in(manifest.parent)
    numbers = [entry.number for entry in found if not entry.is_base]
    bases = len(found) - len(numbers)
    is_gapless = numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    if bases > 1 or not is_gapless or not found:
        raise ManifestError("the files do not show which of them belong together")
    if manifest.exists():
        manifest.rename(manifest.with_name(f"{MANIFEST}.damaged-{stamp}"))
    _write_manifest(manifest, found)
    return found


def _write_manifest(manifest: Path, files: list[Entry]) -> None:
    lines = [f"file {e.file.name} seq {e.number} type {'b' if e.is_base else 'i'}\n" for e in files]
    new = manifest.with_name(f"temp.{MANIFEST}")
    with open_private(new) as file:
        file.truncate(0)
        file.write("".join(lines).encode())
        file.flush()
        os.fsync(file.fileno())
    new.replace(manifest)


def find_damage(binary: str, files: list[Entry]) -> Damage | None:
    """Return the first damage in the incremental files, or None; raises OSError."""
    last = files[-1].file if files else None
    for entry in files:
        if entry.is_base:
            continue
        damage = _check(binary, entry.file)
        if damage:
            return damage if entry.file == last else damage._replace(is_torn=False)
    return None


def damaged_base(binary: str, files: list[Entry]) -> Path | None:
    """Return the snapshot if the server's own checker finds it damaged, else None."""
    for entry in files:
        is_snapshot = entry.is_base and entry.file.suffix == ".rdb"
        if is_snapshot and _run_as("redis-check-rdb", binary, entry.file).returncode:
            return entry.file
    return None


def _check(binary: str, file: Path) -> Damage | None:
    size = file.stat().st_size
    if not size:
        return None
    done = _run_as("redis-check-aof", binary, file)
    match = _SOUND.search(done.stdout)
    if done.returncode == 0 or not match:
        return None
    sound = int(match[1])
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return Damage(file, size, sound, not _has_whole_command_after_damage(data, sound))


def _run_as(name: str, binary: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Run the server's program under the name of one of its tools, as which it then works."""
    return subprocess.run(  # noqa: S603 - the program of the embedded store
        [name, str(file)],
        executable=binary,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _has_whole_command_after_damage(data: mmap.mmap, sound: int) -> bool:
    """Return whether commands follow the damage: then it is not a write that was cut off."""
    damage = sound
    while (end := _end_of_command(data, damage)) is not None:
        damage = end  # past the commands of a transaction that was not finished
    return any(
        _end_of_command(data, match.start()) is not None
        for match in _ARRAY.finditer(data, min(damage + 1, len(data)))
    )


def _end_of_command(data: mmap.mmap, at: int) -> int | None:
    """Return the end of the command that starts at a position, or None if it is not whole.

    E.g. ``*1\\r\\n$4\\r\\nPING\\r\\n`` at 0 ends at 14.
    """
    array = _ARRAY.match(data, at)
    if not array:
        return None
    at = array.end()
    for _ in range(int(array[1])):
        bulk = _BULK.match(data, at)
        if not bulk:
            return None
        at = bulk.end() + int(bulk[1]) + 2
        if data[at - 2 : at] != b"\r\n":
            return None
    return at


def cut(damage: Damage, stamp: str) -> Path:
    """Cut a file off after its sound part; return the file that keeps the rest.

    The two, one after the other, are the file as it was.
    """
    kept = damage.file.with_name(f"{damage.file.name}.cut-{stamp}")
    with damage.file.open("r+b") as file, open_private(kept) as rest:
        file.seek(damage.sound)
        while block := file.read(1 << 20):
            rest.write(block)
        rest.flush()
        os.fsync(rest.fileno())
        file.truncate(damage.sound)
        os.fsync(file.fileno())
    return kept


def set_aside(folder: Path, files: list[Entry], after: Path, stamp: str) -> list[Path]:
    """Remove the files after another one from the manifest; return their new names."""
    names = [entry.file for entry in files]
    keep = names.index(after) + 1
    _write_manifest(folder / DIRECTORY / MANIFEST, files[:keep])
    return [file.rename(file.with_name(f"{file.name}.cut-{stamp}")) for file in names[keep:]]


def now() -> str:
    """Return the time for a file's name, e.g. ``20260115T103045Z``."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def open_private(file: Path) -> BinaryIO:
    """Open a file for writing at its end; if it is new, only its owner can read it."""
    return os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def exposed(folder: Path) -> Iterator[Path]:
    """Yield the paths that others on the machine can read: the directory, or files in it."""
    for path in (folder, folder / DIRECTORY):
        if not path.is_dir():
            return
        mode = path.stat().st_mode
        if path == folder and mode & 0o007:
            yield folder
        if not mode & 0o011:  # others cannot reach the files in it
            return
        for file in path.glob("*.*"):
            if file.is_file() and file.stat().st_mode & (0o044 if mode & 0o010 else 0o004):
                yield file
