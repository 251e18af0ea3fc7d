"""The command line. Each command imports what it needs: the health check runs every few seconds."""

import argparse
import io
import os
import sys
from contextlib import suppress

from session_service import __version__
from session_service.settings import Settings, SettingsError

LISTEN_FDS = "--listen-fds"  # the option that makes a worker of the program


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code: 0 done, 1 failed, 2 wrong usage or settings."""
    _open_missing_streams()
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # before there is a handler for SIGINT
        return 130
    finally:
        _flush()


def _run(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="session-service",
        description="The Sessions API on Redis. Settings come from the environment.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="serve the Sessions API")
    serving.add_argument(LISTEN_FDS, default="", help=argparse.SUPPRESS)
    commands.add_parser(
        "healthcheck", help="exit with 0 if the service on HOST and PORT is ready, else with 1"
    )
    repairing = commands.add_parser(
        "repair", help="save what can be read of an embedded store whose files are damaged"
    )
    repairing.add_argument("--check", action="store_true", help="look, and change nothing")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.command == "healthcheck":
        return _healthcheck(settings)
    if options.command == "repair":
        return _repair(settings, check_only=options.check)
    return _serve(settings, [int(fd) for fd in options.listen_fds.split(",") if fd])


def _serve(settings: Settings, listen_fds: list[int]) -> int:
    from session_service.process.serve import run  # noqa: PLC0415 - heavy

    return run(settings, listen_fds)


def _repair(settings: Settings, *, check_only: bool) -> int:
    from session_service.process.repair import repair  # noqa: PLC0415 - only here

    return repair(settings, check_only=check_only)


def _healthcheck(settings: Settings) -> int:
    from session_service.process.healthcheck import problem  # noqa: PLC0415 - only here

    if found := problem(settings.listen_on, settings.port):
        sys.stderr.write(f"not ready: {found}\n")
        return 1
    return 0


def _open_missing_streams() -> None:
    """Open the standard streams that are closed: a socket would take their place."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of a path that is no UTF-8


def _flush() -> None:
    """Write out what is left, or drop it if nobody reads it, as on a closed terminal.

    Python would end with exit code 120 otherwise.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
