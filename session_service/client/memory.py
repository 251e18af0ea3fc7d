"""``memory://``: a whole service in this process, for tests.

It is the only part of the client that uses the server, so it imports that when a test needs it.
"""

import importlib
import importlib.util
from contextlib import AbstractAsyncContextManager

URL = "memory://"


def check_extra() -> None:
    """Raise ImportError if the extra ``memory`` is not installed."""
    if not all(map(importlib.util.find_spec, ("fakeredis", "lupa"))):
        raise ImportError(f"{URL} needs pip install 'session-service[memory]'")


def serve() -> AbstractAsyncContextManager[str]:
    """Serve until the block ends; its value is the URL of the service."""
    module = importlib.import_module("session_service.process.in_memory")
    service: AbstractAsyncContextManager[str] = module.serve_in_memory()
    return service
