"""Runs a command with a client of the service; errors become a line and an exit code."""

import asyncio
import importlib
import sys
from typing import TYPE_CHECKING, Any, Protocol, cast

from session_service.output import discard_output

if TYPE_CHECKING:
    from session_service.client import SessionService


class _Command(Protocol):
    """The module of a command, e.g. ``console/list_sessions.py``."""

    async def run(self, service: "SessionService", **options: Any) -> int:
        """Run the command; return the exit code."""


_RETRIES = 2
# Half a minute: a restart of the service does not end what may have taken hours.
_RETRIES_OF_LONG_COMMANDS = {"export_sessions": 10, "import_sessions": 10}


def run_remote(name: str, url: str | None, key_file: str | None, **options: Any) -> int:
    """Run ``console/<name>.py`` with a client of the service at ``url``; return the exit code.

    It is 1 if the service refuses or cannot be reached, and 2 if the URL, the file with the key, or
    an id cannot be used. Modules are imported here, because the client takes 0.2 s.
    """
    client = importlib.import_module("session_service.client")
    credentials = importlib.import_module("session_service.client.credentials")
    try:
        key = None if key_file is None else credentials.read_key(key_file)
        retries = _RETRIES_OF_LONG_COMMANDS.get(name, _RETRIES)
        service = client.SessionService(url, api_key=key, max_retries=retries)
    except (ValueError, OSError, ImportError) as error:  # memory:// needs an extra
        sys.stderr.write(f"{error}\n")
        return 2
    command = cast("_Command", importlib.import_module(f"session_service.console.{name}"))
    try:
        return asyncio.run(_run(command, service, options))
    except client.ConnectionFailed as error:
        sys.stderr.write(f"{error}\nIs the service running? Name another with --url.\n")
        return 1
    except client.SessionServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except ValueError as error:  # the client's, e.g. for an id with a space
        sys.stderr.write(f"{error}\n")
        return 2
    except BrokenPipeError:
        discard_output()
        return 0
    except OSError as error:  # a file of the command, e.g. on a full disk
        sys.stderr.write(f"{error}\n")
        return 1


async def _run(command: _Command, service: "SessionService", options: dict[str, Any]) -> int:
    async with service:
        return await command.run(service, **options)
