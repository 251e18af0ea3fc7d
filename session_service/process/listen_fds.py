"""The option that makes a worker of the program: the listening sockets that it inherits.

``session-service serve --listen-fds 5,6`` serves on the file descriptors 5 and 6.
"""

from collections.abc import Iterable

OPTION = "--listen-fds"


def write(fds: Iterable[int]) -> str:
    """Return the option's value, e.g. ``5,6``."""
    return ",".join(map(str, fds))


def read(value: str) -> list[int]:
    """Return the file descriptors of the option's value; none if it is empty."""
    return [int(fd) for fd in value.split(",") if fd]
