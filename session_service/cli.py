"""The command line."""

import argparse
import asyncio
import importlib.util
import logging
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

from session_service import __version__, logs
from session_service.serve import StartError, serve
from session_service.settings import Settings, SettingsError
from session_service.store.embedded import EmbeddedServerError
from session_service.workers import LISTEN_FDS


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 told the wrong thing."""
    parser = argparse.ArgumentParser(prog="session-service", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser(
        "serve", help="serve the Sessions API; settings come from the environment"
    )
    serving.add_argument(LISTEN_FDS, default="", help=argparse.SUPPRESS)
    commands.add_parser("healthcheck", help="exit with 0 where the service on PORT is ready")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.command == "healthcheck":
        return _healthcheck(settings.port)
    return _serve(settings, [int(fd) for fd in options.listen_fds.split(",") if fd])


def _serve(settings: Settings, listen_fds: list[int]) -> int:
    logs.set_up(settings.log_level, settings.log_format)
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if importlib.util.find_spec("uvloop"):  # not to be had everywhere
        loop_factory = importlib.import_module("uvloop").new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve(settings, listen_fds))
    except (StartError, EmbeddedServerError) as error:
        logging.getLogger("session_service").critical("cannot serve: %s", error)
        return 1
    return 0


def _healthcheck(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return 0
    except (urllib.error.URLError, OSError) as error:
        sys.stderr.write(f"not ready: {error}\n")
        return 1
