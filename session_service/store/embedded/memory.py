"""The memory that this process may use: that of the machine, or less if a cgroup limits it."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

# The folder and the file with the limit of a group, in cgroup version 2 and 1.
_FILES = {"": ("sys/fs/cgroup", "memory.max"), "memory": ("sys/fs/cgroup/memory", None)}


def available(root: Path = Path("/")) -> int:
    """Return the bytes that this process and its children may use; ``root`` is for tests."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    for file in _limit_files(root):
        with suppress(OSError, ValueError):  # no such group, or "max" for no limit
            yield int(file.read_text())


def _limit_files(root: Path) -> Iterator[Path]:
    """Yield the files that may limit this process: those of its groups, and of the groups above.

    In a container the root of the hierarchy is often the container's own group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text()
    except OSError:  # not Linux
        return
    for controllers, path in re.findall(r"^\d+:([^:]*):(/.*)$", lines, re.MULTILINE):
        if controllers in _FILES:
            folder, name = _FILES[controllers]
            group = PurePosixPath(path)
            for each in (group, *group.parents):
                yield root / folder / each.relative_to("/") / (name or "memory.limit_in_bytes")
