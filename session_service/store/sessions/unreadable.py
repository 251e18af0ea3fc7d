"""Sessions with an unreadable record, in one set for each shard, so that all nodes count them.

A session is added when a request reads it or when the sweep cannot process its deadline. The node
that adds it also logs it, so that a fleet logs it once.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from session_service.domain.budgets import UNREADABLE_LOG_LINES
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.records import pack_id
from session_service.store.scripts.deadlines import NOTE, NoteArguments

_REPORT_SECONDS = 60.0  # a process reports a session at most once in this time
_MAX_REPORTED = 1000  # sessions that a process remembers to have reported
_LOG_SECONDS = 60.0

log = logging.getLogger(__name__)


class UnreadableSessions:
    """Reports unreadable sessions to the store and to the log."""

    def __init__(self, executor: ScriptExecutor, keys: Keys) -> None:
        self._executor = executor
        self._keys = keys
        self._report_again_at: dict[str, float] = {}  # by session id
        self._lines_until = 0.0
        self._lines = 0

    def report(self, session_id: str) -> None:
        """Add a session to the set, without waiting for the store, and log it if it is new."""
        now = asyncio.get_running_loop().time()
        if self._report_again_at.get(session_id, 0.0) > now:
            return
        if len(self._report_again_at) >= _MAX_REPORTED:
            self._report_again_at.clear()
        self._report_again_at[session_id] = now + _REPORT_SECONDS
        keys = self._keys.of_session(NOTE.keys, session_id[:2], session_id)
        is_new = self._executor.submit(NOTE, keys, NoteArguments(pack_id(session_id)))
        is_new.add_done_callback(partial(self._log_if_new, session_id))

    def log(self, session_id: str) -> None:
        """Log that a session cannot be read, at most UNREADABLE_LOG_LINES sessions a minute."""
        now = asyncio.get_running_loop().time()
        if now >= self._lines_until:
            self._lines_until, self._lines = now + _LOG_SECONDS, 0
        self._lines += 1
        if self._lines <= UNREADABLE_LOG_LINES:
            extra = {"session": session_id}
            log.error("a stored session cannot be read; it is left as it is", extra=extra)
        elif self._lines == UNREADABLE_LOG_LINES + 1:
            log.error("more sessions cannot be read; not logged one by one for a minute")

    def _log_if_new(self, session_id: str, is_new: asyncio.Future[Any]) -> None:
        if not is_new.cancelled() and is_new.exception() is None and is_new.result():
            self.log(session_id)
