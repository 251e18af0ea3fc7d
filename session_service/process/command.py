"""Runs a command by name: reads the settings, then imports the module of the command."""

import importlib
import sys
from typing import Any, Protocol, cast

from session_service.settings import Settings, SettingsError


class _Command(Protocol):
    """The module of a command, e.g. ``process/repair.py``."""

    def run(self, *arguments: Any, **options: Any) -> int:
        """Run the command; return the exit code."""


def run_command(name: str, **options: Any) -> int:
    """Run ``process/<name>.py`` with the settings of the environment; return the exit code.

    Returns 2 if the settings are not valid, with a line for each problem on standard error. No
    command imports another one's module: that of ``serve`` takes 0.3 s.
    """
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run_module(name, settings, **options)


def run_module(name: str, *arguments: Any, **options: Any) -> int:
    """Run ``process/<name>.py``, which reads the settings itself; return the exit code."""
    module = importlib.import_module(f"session_service.process.{name}")
    return cast("_Command", module).run(*arguments, **options)
