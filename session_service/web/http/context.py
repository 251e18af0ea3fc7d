"""The context of a request, the first argument of handlers of REST, streams and Socket.IO."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from aiohttp import web
from msgspec import Struct

from session_service.access.watch import End
from session_service.audit import AuditedBlock, AuditEvent, Outcome, UnauditedBlock
from session_service.domain.credentials import Credential
from session_service.store.sessions.repository import SessionRepository
from session_service.web.http.create_limit import PageAddress
from session_service.web.http.response import Response
from session_service.web.http.state import AppState


class RequestContext(Struct, gc=False):
    """Everything a handler needs besides the ids, query and body of the request.

    ``sessions`` is scoped to the caller, and to the Idempotency-Key if the request has one. Until
    the guard of the route sets them, it is unlimited and ``credential`` is open.
    ``request_id`` is the one in the log, e.g. ``5f0c3a9be1d2-1a``, and ``address`` the client's,
    e.g. ``192.0.2.7``. A Socket.IO connection has one context, that of the request which connected
    it, with the credential of its CONNECT. The garbage collector may skip contexts, since nothing
    in them refers back to them.
    """

    state: AppState
    request_id: str
    address: str
    sessions: SessionRepository
    credential: Credential = Credential.OPEN
    page: PageAddress | None = None  # of a page that may create a session, to be counted

    def audit(self, event: AuditEvent, outcome: Outcome = Outcome.DONE, **fields: Any) -> None:
        """Write an entry of the audit log, unless access control is off.

        A request that replays the reply to an earlier one has no entry, because that one has.
        """
        self._record(event, outcome, fields)

    def count(self, transition: str, number: int = 1) -> None:
        """Count sessions that were ``created``, ``renewed`` or ``ended``, for metrics.

        A request that replays the reply to an earlier one counts none.
        """
        if not self.sessions.scope.executor.has_replayed:
            self.state.measures.transitions[transition].add(number)

    def audited(self, event: AuditEvent, **fields: Any) -> UnauditedBlock:
        """Return a block for an operation, with an entry once it has, or may have, had an effect.

        The block can add fields to the entry::

            with context.audited(AuditEvent.SESSIONS_ENDED, user=user_id) as entry:
                entry.add(ended=await end_sessions_of(user_id))
        """
        return AuditedBlock(self._record, event, fields) if self.state.audit else _UNAUDITED

    def _record(self, event: AuditEvent, outcome: Outcome, fields: dict[str, Any]) -> None:
        audit = self.state.audit
        if audit and not self.sessions.scope.executor.has_replayed:
            audit.record(event, self.credential, self.address, outcome, fields)

    def ending(self, end: End) -> AbstractContextManager[None]:
        """Return a block in which ``end`` is called if the credential ends."""
        watch = self.state.watch
        return watch.ending(self.credential, end) if watch else nullcontext()


_UNAUDITED = UnauditedBlock()

# Takes the context, the request and the ids of its path. Raises ServiceError.
Endpoint = Callable[[RequestContext, web.BaseRequest, tuple[str, ...]], Awaitable[Response]]
