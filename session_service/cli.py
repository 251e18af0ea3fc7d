"""The program ``session-service``: its exit codes, its standard streams, and its cheapest command.

``main`` imports typer only if it is needed: ``healthcheck`` runs every 10 s in each container.
"""

import importlib
import io
import os
import sys
from contextlib import suppress

from session_service.process.command import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code.

    0: done. 1: failed. 2: wrong usage or settings. 130: interrupted by Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_missing_streams()
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # before there is a handler for SIGINT
        return 130
    finally:
        _flush()


def _run(arguments: list[str]) -> int:
    if arguments == ["healthcheck"]:
        return run_command("healthcheck")
    code: int = importlib.import_module("session_service.commands").run(arguments)
    return code


def _open_missing_streams() -> None:
    """Open the standard streams that are closed: else a socket would get the number of one."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a path that is not UTF-8


def _flush() -> None:
    """Write the buffered output, or drop it if nobody reads it, as on a closed terminal.

    Otherwise Python would exit with code 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
