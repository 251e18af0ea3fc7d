"""One serving process: its background tasks, its HTTP server, and the drain when it stops."""

import asyncio
import gc
import importlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from session_service.access.authenticator import Authenticator
from session_service.access.session_tokens import SessionTokens
from session_service.background.deliveries import deliver_forever
from session_service.background.sweeper import sweep_forever
from session_service.background.verifier import verify_forever
from session_service.background.webhook_client import WebhookClient
from session_service.composition import Store
from session_service.domain.budgets import METRICS_CONNECTIONS
from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.domain.ids import SHARDS
from session_service.domain.webhooks import WebhookPolicy
from session_service.process.gauges import StoreGauges
from session_service.process.listen import BACKLOG, Sockets, accept_pending, allow_files
from session_service.process.notice import Notice
from session_service.process.tasks import Tasks
from session_service.web.http.address_limit import AddressLimit
from session_service.web.http.browsers import BrowserPolicy
from session_service.web.http.client_addresses import TrustedProxies
from session_service.web.http.create_limit import CreateLimit
from session_service.web.http.handover import Peers
from session_service.web.http.limits import LIMIT_FIELDS, RequestLimits
from session_service.web.http.state import AppState
from session_service.web.http.webhook_tests import WebhookTests
from session_service.web.server import Server

if TYPE_CHECKING:  # it needs the extra jwt
    from session_service.access.jwt import JwtVerifier
if TYPE_CHECKING:  # it needs the extra otel
    from session_service.tracing.tracer import Tracing

MakeClient = Callable[[WebhookPolicy], WebhookClient]

_ACCEPT_SECONDS = 0.05  # after the stop signal, to accept connections that are already made
_CUT_SECONDS = 0.1  # after the drain, for the remaining connections; aiohttp takes 0 for no limit

log = logging.getLogger(__name__)


async def serve_requests(
    store: Store,
    sockets: Sockets,
    stack: AsyncExitStack,
    tasks: Tasks,
    *,
    notice: Notice,
    when_ready: Callable[[], None],
    tracing: "Tracing | None" = None,
) -> None:
    """Serve on the sockets until one of the tasks ends, then drain; raise the task's exception."""
    state = await start_node(store, stack, tasks, notice=notice, tracing=tracing)
    server = Server(state, allow_files(store.settings.max_connections))
    metrics = Server(state, METRICS_CONNECTIONS, metrics_of=server)
    await serve_on(sockets.metrics, metrics, stack)
    sites = await serve_on(sockets.api, server, stack)
    if state.peers is not None:
        state.peers.receive(server)
    when_ready()
    _collect_garbage_less()
    await tasks.until_one_ends()
    drain_seconds = store.settings.drain_seconds
    log.info("stopping", extra={"drain_seconds": drain_seconds})
    state.draining = True
    await asyncio.sleep(_ACCEPT_SECONDS)
    await _stop_listening(server, sites, sockets.api)
    if state.peers is not None:
        state.peers.close()
    await state.drain(drain_seconds, server.has_connections)


async def start_node(
    store: Store,
    stack: AsyncExitStack,
    tasks: Tasks,
    *,
    notice: Notice,
    tracing: "Tracing | None" = None,
) -> AppState:
    """Start the background tasks of a node, and return the state that its server needs."""
    jwts = _jwt_verifier(store)
    if store.settings.access.is_on:
        await _start_access(store, jwts, tasks)
    await _begin_pasts(store)
    make_client = tracing.webhook_client if tracing else WebhookClient
    _start_tasks(store, tasks, make_client)
    tester = await stack.enter_async_context(make_client(store.webhooks.policy))
    webhook_tests = WebhookTests(tester.post, with_content=store.settings.events.content)
    return _state(store, jwts, notice, tracing, webhook_tests)


async def serve_on(
    sockets: Sequence[socket.socket], server: Server, stack: AsyncExitStack
) -> list[web.SockSite]:
    """Serve on the sockets until the stack is left."""
    runner = web.ServerRunner(server, shutdown_timeout=_CUT_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    sites = [web.SockSite(runner, each, backlog=BACKLOG) for each in sockets]
    for site in sites:
        await site.start()
    return sites


async def _stop_listening(
    server: Server, sites: Sequence[web.SockSite], sockets: Sequence[socket.socket]
) -> None:
    """Accept the connections that are made, and no others; the sites are those of the sockets."""
    for site, listener in zip(sites, sockets, strict=True):
        accepted = accept_pending(listener)
        await site.stop()
        for connection in accepted:
            try:
                await asyncio.get_running_loop().connect_accepted_socket(server, connection)
            except OSError:  # its client has gone
                connection.close()


async def _begin_pasts(store: Store) -> None:
    """Begin the outboxes of a new store, so that they have all events from the first request on.

    If the store is unavailable, the first trim does that.
    """
    with suppress(StoreUnavailable):
        await store.outbox.begin_pasts(SHARDS)


def _start_tasks(store: Store, tasks: Tasks, make_client: MakeClient) -> None:
    events = store.settings.events
    tasks.start(store.data_set.watch_forever(store.quarantine))
    tasks.start(sweep_forever(store.deadlines, store.outbox, events, store.quarantine))
    tasks.start(deliver_forever(store.webhooks, store.consumer, make_client))
    if not store.is_memory:
        tasks.start(store.monitor.run())
        tasks.start(verify_forever(store.verification, store.quarantine))


async def _start_access(store: Store, jwts: "JwtVerifier | None", tasks: Tasks) -> None:
    """Read the API keys, so that the first requests find them, and again every second.

    A key set is fetched in the background. Requests with a JWT wait for it, others do not.
    """
    if jwts is not None and jwts.key_set is not None:
        tasks.start(jwts.key_set.refresh_forever())
    with suppress(StoreUnavailable, RecordUnreadable):
        await store.api_keys.refresh()
    tasks.start(store.api_keys.refresh_forever(store.quarantine))


def _state(
    store: Store,
    jwts: "JwtVerifier | None",
    notice: Notice,
    tracing: "Tracing | None",
    webhook_tests: WebhookTests,
) -> AppState:
    settings = store.settings
    limits = _limits(store)
    proxies = TrustedProxies(settings.rates.proxies) if settings.rates.proxies else None
    session_tokens = _session_tokens(store)
    state = AppState(
        store.repository,
        settings.timeouts,
        store.feed,
        store.webhooks,
        webhook_tests=webhook_tests,
        max_in_flight=settings.max_in_flight,
        browsers=BrowserPolicy(
            settings.origins,
            settings.hosts,
            any_host=settings.access.is_on,
            exposed=LIMIT_FIELDS if limits else (),
        ),
        creations=CreateLimit(settings.create_limit, proxies=proxies),
        peers=Peers.from_environment(os.environ),
        agents=settings.agents,
        access=_authenticator(store, jwts, session_tokens),
        limits=limits,
        proxies=proxies,
        session_tokens=session_tokens,
        measures=store.measures,
        slow_seconds=settings.slow_request_ms / 1000,
        access_log=settings.access_log,
        tracing=tracing,
    )
    store.measures.gauges.append(StoreGauges(store).read)
    store.limit_failures.report = lambda why: state.admission.refused.unlimited.log(reason=why)
    state.health_reasons += [store.monitor.reasons, notice.reasons, store.quarantine.reasons]
    if jwts is not None and jwts.key_set is not None:
        state.health_reasons.append(jwts.key_set.reasons)
    # With access control the first screen, which is public, does not have the store's version.
    state.describe_store = partial(store.monitor.describe, with_version=not settings.access.is_on)
    return state


def _jwt_verifier(store: Store) -> "JwtVerifier | None":
    """Return what verifies JWTs, or None without a setting of them: the extra may be missing."""
    settings = store.settings.access.jwt
    if settings is None:
        return None
    verifier: JwtVerifier = importlib.import_module("session_service.access.jwt").JwtVerifier(
        settings
    )
    return verifier


def _session_tokens(store: Store) -> SessionTokens | None:
    """Return what mints and verifies session tokens; None if there are none."""
    access = store.settings.access
    secrets = access.session_token_secrets
    if not (access.is_on and secrets):
        return None
    return SessionTokens(secrets, store.api_keys, access.token)


def _authenticator(
    store: Store, jwts: "JwtVerifier | None", session_tokens: SessionTokens | None
) -> Authenticator | None:
    """Return what finds the credentials of requests; None if access control is off."""
    settings = store.settings.access
    if not settings.is_on:
        return None
    return Authenticator(
        keys=store.api_keys, sessions=session_tokens, jwts=jwts, token=settings.token
    )


def _limits(store: Store) -> RequestLimits | None:
    """Return the limits on requests, or None if none is set."""
    address = store.settings.rates.address
    if not (store.user_limit or store.key_limit or address):
        return None
    return RequestLimits(
        users=store.user_limit,
        keys=store.key_limit,
        addresses=AddressLimit(address) if address else None,
    )


def _collect_garbage_less() -> None:
    """Exempt the objects made at the start from collection, and collect the others less often.

    A request leaves no cycles behind; a creation is 8 % faster for it. A first generation of 1,000
    would halve the pauses while many connections come and go (8 ms a second), but it costs 1 to
    2 µs for each message: 64 requests in flight have more objects than that.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 50, 100)
