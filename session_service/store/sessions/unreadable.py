"""Sessions whose record cannot be read: kept in one set a shard, so that every node counts them.

A session comes into the set when a request meets it or when the sweep cannot act on its deadline.
Whoever puts it there logs it, so a fleet logs it once.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from session_service.domain.budgets import UNREADABLE_LOG_LINES
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.scripts.deadlines import NOTE, NoteArguments

_NOTED_SECONDS = 60.0  # in which a process notes a session at most once
_MOST = 1000  # sessions that a process remembers to have noted
_LINES_SECONDS = 60.0

log = logging.getLogger(__name__)


class Unreadable:
    """Notes the unreadable sessions that requests meet."""

    def __init__(self, executor: ScriptExecutor, keys: Keys) -> None:
        self._executor = executor
        self._keys = keys
        self._noted: dict[str, float] = {}  # session ids, until when they need not be noted again
        self._lines_until = 0.0
        self._lines = 0

    def met(self, session_id: str) -> None:
        """Note a session, without waiting for the store."""
        now = asyncio.get_running_loop().time()
        if self._noted.get(session_id, 0.0) > now:
            return
        if len(self._noted) >= _MOST:
            self._noted.clear()
        self._noted[session_id] = now + _NOTED_SECONDS
        keys = self._keys.of_session(NOTE.keys, session_id[:2], session_id)
        noted = self._executor.submit(NOTE, keys, NoteArguments(session_id))
        noted.add_done_callback(partial(self._log_if_new, session_id))

    def log(self, session_id: str) -> None:
        """Log that a session cannot be read, up to UNREADABLE_LOG_LINES of them a minute."""
        now = asyncio.get_running_loop().time()
        if now >= self._lines_until:
            self._lines_until, self._lines = now + _LINES_SECONDS, 0
        self._lines += 1
        if self._lines <= UNREADABLE_LOG_LINES:
            about = {"session": session_id}
            log.error("a stored session cannot be read; it is left as it is", extra=about)
        elif self._lines == UNREADABLE_LOG_LINES + 1:
            log.error("more sessions cannot be read; not logged one by one for a minute")

    def _log_if_new(self, session_id: str, noted: asyncio.Future[Any]) -> None:
        if not noted.cancelled() and noted.exception() is None and noted.result():
            self.log(session_id)
