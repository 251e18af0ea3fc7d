"""The option that makes a worker of the program: the listening sockets that it inherits.

``session-service serve --listen-fds 5,6/7`` serves the API on the file descriptors 5 and 6, and the
metrics on 7.
"""

from collections.abc import Sequence
from typing import NamedTuple

OPTION = "--listen-fds"


class ListenFds(NamedTuple):
    """The file descriptors of the listening sockets."""

    api: Sequence[int]
    metrics: Sequence[int] = ()  # of METRICS_PORT


def write(fds: ListenFds) -> str:
    """Return the option's value, e.g. ``5,6/7``, or ``5,6/`` without METRICS_PORT."""
    return "/".join(",".join(map(str, each)) for each in fds)


def read(value: str) -> ListenFds | None:
    """Return the file descriptors of the option's value; None if it is empty: this is no worker."""
    if not value:
        return None
    api, _, metrics = value.partition("/")
    return ListenFds(*([int(fd) for fd in fds.split(",") if fd] for fds in (api, metrics)))
