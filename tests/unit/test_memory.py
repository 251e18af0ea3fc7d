"""The memory limit of a process: of the machine, or of its cgroup."""

import os
from pathlib import Path

import pytest

from session_service.store.embedded import memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
GIB = 1024**3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, MACHINE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, GIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, MACHINE),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/memory.max": "1073741824\n",
                "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
            },
            GIB,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
            },
            GIB,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            MACHINE,
        ),
    ],
    ids=["no cgroup", "version 2", "no limit", "a group above", "version 1", "v1, no limit"],
)
def test_the_least_of_the_limits_counts(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    """The lowest limit of the process's cgroup and those above counts, in both versions."""
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert memory.available(tmp_path) == expected
