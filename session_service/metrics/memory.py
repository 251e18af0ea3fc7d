"""The memory of the numbers: a part for each worker of a node, which all of them can read.

A worker writes to its own part only, so no number needs a lock, and a number is never lost: the
part of a worker that dies stays, and the worker that replaces it goes on counting there.
"""

import mmap
import os
import tempfile
from collections.abc import Mapping

VARIABLE = "METRICS_MEMORY"  # in a worker's environment: see ``SharedMemory.variable_for``

PART_NUMBERS = 1 << 20  # numbers of a part: 8 MiB, of which only pages that are written take memory
_PART_BYTES = 8 * PART_NUMBERS


class SharedMemory:
    """The parts, and the one that this process writes to.

    ``fd`` is the descriptor of the memory, a file without a name, which workers inherit; -1 is
    memory of this process alone.
    """

    def __init__(self, fd: int, parts: int, own: int) -> None:
        self.fd = fd
        numbers = memoryview(mmap.mmap(fd, parts * _PART_BYTES)).cast("d")
        self.parts = [numbers[n * PART_NUMBERS : (n + 1) * PART_NUMBERS] for n in range(parts)]
        self.own = self.parts[own]

    @classmethod
    def private(cls) -> "SharedMemory":
        """Return memory of this process alone, all numbers 0."""
        return cls(-1, 1, 0)

    @classmethod
    def create(cls, workers: int) -> "SharedMemory":
        """Return memory for a number of workers, all numbers 0."""
        with tempfile.TemporaryFile() as file:
            file.truncate(workers * _PART_BYTES)
            return cls(os.dup(file.fileno()), workers, 0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], version: str) -> "SharedMemory":
        """Return the memory that a worker inherits, or else private memory.

        Also private if the supervisor has another version, because that may have the numbers in
        other places: if the package was upgraded under a service that runs.
        """
        value = environment.get(VARIABLE)
        if value is None:
            return cls.private()
        fd, parts, own, supervisor = value.split(":", 3)
        if supervisor != version:
            return cls.private()
        return cls(int(fd), int(parts), int(own))

    def variable_for(self, worker: int, version: str) -> str:
        """Return the value of VARIABLE for a worker.

        ``7:4:2:0.2.0`` is the third of the four parts of the file with the descriptor 7.
        """
        return f"{self.fd}:{len(self.parts)}:{worker}:{version}"
