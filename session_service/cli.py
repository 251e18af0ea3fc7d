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


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 told the wrong thing."""
    parser = argparse.ArgumentParser(prog="session-service", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve the Sessions API; settings come from the environment")
    commands.add_parser("healthcheck", help="exit with 0 where the service on PORT is ready")
    command = parser.parse_args(arguments).command
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return _serve(settings) if command == "serve" else _healthcheck(settings.port)


def _serve(settings: Settings) -> int:
    logs.set_up(settings.log_level, settings.log_format)
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if importlib.util.find_spec("uvloop"):  # not to be had everywhere
        loop_factory = importlib.import_module("uvloop").new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve(settings))
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
