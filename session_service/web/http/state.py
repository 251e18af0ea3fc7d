"""The state of the process: everything that lives longer than a request."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from session_service.access.authenticator import Authenticator
from session_service.access.session_tokens import SessionTokens
from session_service.access.watch import Watch
from session_service.audit import AuditLog
from session_service.domain.budgets import IN_FLIGHT, SLOW_REQUEST_MS
from session_service.domain.credentials import Credential
from session_service.domain.timeouts import TimeoutPolicy
from session_service.metrics.measures import Measures
from session_service.store.events.feed import Feed
from session_service.store.sessions.repository import SessionRepository
from session_service.store.sessions.scope import Scope
from session_service.store.webhooks.registry import Webhooks
from session_service.web.http.admission import Admission
from session_service.web.http.browsers import BrowserPolicy
from session_service.web.http.client_addresses import TrustedProxies, group_of
from session_service.web.http.create_limit import CreateLimit
from session_service.web.http.handover import Peers
from session_service.web.http.limits import RequestLimits
from session_service.web.http.webhook_tests import WebhookTests

_IDLE_SECONDS = 1.0  # for an idle connection, before it is closed
_POLL_SECONDS = 0.02
_SCOPED = 5_000  # repositories for credentials, of 0.7 KB each


class Tracing(Protocol):
    """Makes handlers that trace, from those that do not."""

    def of_requests(self, handle: Any, target_of: Any) -> Any:
        """Return a handler of requests; ``target_of`` returns the Target of one."""

    def of_event(self, name: str, handle: Any) -> Any:
        """Return a handler of the event with this name, which clients of Socket.IO emit."""


class AppState:
    """The store's repositories, the policies, and the counters of this process.

    ``admission`` allows ``max_in_flight`` requests at a time. ``browsers`` decides which pages may
    use the service, by default its own, and ``creations`` limits how many sessions they create.
    ``peers`` are the other workers of the node, or None if there are none. ``access`` finds the
    credentials of requests; None means that access control is off, and so are ``audit`` and
    ``watch``. ``limits`` are those on requests, and ``proxies`` name the addresses of clients; None
    is none.
    ``session_tokens`` mints tokens for pages, or is None if there are none.
    Sessions may be created with these ``agents`` only, or with all if there are none. ``measures``
    are the numbers of the process, for metrics. A request that takes ``slow_seconds`` is logged,
    unless that is 0; with ``access_log`` every request is. ``tracing`` is None without
    traces.
    """

    def __init__(
        self,
        repository: SessionRepository,
        policy: TimeoutPolicy,
        feed: Feed,
        webhooks: Webhooks,
        *,
        webhook_tests: WebhookTests,
        max_in_flight: int = IN_FLIGHT,
        browsers: BrowserPolicy | None = None,
        creations: CreateLimit | None = None,
        peers: Peers | None = None,
        agents: frozenset[str] = frozenset(),
        access: Authenticator | None = None,
        session_tokens: SessionTokens | None = None,
        limits: RequestLimits | None = None,
        proxies: TrustedProxies | None = None,
        measures: Measures | None = None,
        slow_seconds: float = SLOW_REQUEST_MS / 1000,
        access_log: bool = False,
        tracing: Tracing | None = None,
    ) -> None:
        self.measures = measures or Measures()
        self.slow_seconds = slow_seconds
        self.access_log = access_log
        self.tracing = tracing
        self.repository = repository
        self.webhooks = webhooks
        self.webhook_tests = webhook_tests
        self.policy = policy
        self.feed = feed
        self.browsers = browsers or BrowserPolicy()
        self.creations = creations or CreateLimit()
        self.peers = peers
        self.agents = agents
        self.access = access
        self.audit = AuditLog(group_of) if access else None
        self.watch = Watch(access) if access else None
        self.session_tokens = session_tokens
        self.limits = limits
        self.proxies = proxies
        self.draining = False
        self.when_draining: list[Callable[[], None]] = []  # called once, as ``drain`` begins
        self.admission = Admission(max_in_flight, self.measures)
        # Each returns reasons for degraded health, e.g. "the store's last snapshot failed". Every
        # request for health calls all of them, so they report the last observation and do not wait.
        self.health_reasons: list[Callable[[], Iterable[str]]] = []
        # Returns e.g. "Valkey 9.1.0, one server; persistence: append-only file", for the first
        # screen, which everyone may see.
        self.describe_store: Callable[[], str] = lambda: "unknown"
        self._started = time.monotonic()
        self._scoped: dict[Credential, SessionRepository] = {}

    def sessions_for(self, credential: Credential) -> SessionRepository:
        """Return the repository that is limited to the sessions which exist for a credential.

        It is kept for the next request, as making it takes 0.6 us. A session token has a new
        credential in each request.
        """
        scoped = self._scoped.get(credential)
        if scoped is None:
            scope = Scope(self.repository.scope.executor, credential=credential)
            scoped = self.repository.scoped(scope)
            if credential.session is None:
                if len(self._scoped) >= _SCOPED:
                    self._scoped.clear()
                self._scoped[credential] = scoped
        return scoped

    async def drain(self, seconds: float, has_connections: Callable[[], bool]) -> None:
        """Fail readiness, close streams and sockets, and wait up to ``seconds`` for requests.

        The next response on each connection closes it. An idle connection stays open for a second,
        because a request may be on its way.
        """
        self.draining = True
        self.feed.close()
        for stop in self.when_draining:
            stop()
        last_end = started = time.monotonic()
        answered = self.admission.answered
        while (now := time.monotonic()) < started + seconds:
            if self.admission.answered != answered:
                last_end, answered = now, self.admission.answered
            is_quiet = now - last_end > _IDLE_SECONDS or not has_connections()
            if is_quiet and self.admission.is_idle:
                break
            await asyncio.sleep(_POLL_SECONDS)
        if self.audit:
            self.audit.close()

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._started, 3)
