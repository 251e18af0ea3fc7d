"""The service with a defect: reading a session raises an exception that no code expects."""

import sys
from typing import NoReturn

from session_service.cli import main
from session_service.store.sessions.repository import SessionRepository


async def _fail(_: SessionRepository, session_id: str) -> NoReturn:
    raise LookupError(session_id)


setattr(SessionRepository, "get", _fail)  # noqa: B010 - a method cannot be assigned to, says mypy
sys.exit(main(["serve"]))
