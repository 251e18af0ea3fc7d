"""The service in the process of the tests, behind a free port of 127.0.0.1."""

from typing import Any

from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from session_service.composition import Store
from session_service.domain.budgets import CONNECTIONS
from session_service.domain.webhooks import Outcome, Webhook
from session_service.store.webhooks.queue import Delivery
from session_service.web.http.state import AppState
from session_service.web.http.webhook_tests import WebhookTests
from session_service.web.server import Server


class ServiceUnderTest(BaseTestServer):
    """The server that runs in production, on a free port of 127.0.0.1."""

    def __init__(self, service: AppState, max_connections: int = CONNECTIONS) -> None:
        self.service = service
        self._max_connections = max_connections
        super().__init__(host="127.0.0.1")

    async def _make_runner(self, **_: Any) -> web.ServerRunner:
        return web.ServerRunner(Server(self.service, self._max_connections))


async def _fail(_: Webhook, __: Delivery) -> Outcome:
    """Fail, because the test has no client for webhooks."""
    return Outcome("CONNECTION")


def app_state(store: Store, **options: Any) -> AppState:
    """Return the state of an application on a store, with options such as ``max_in_flight=2``."""
    return AppState(
        store.repository,
        store.settings.timeouts,
        store.feed,
        store.webhooks,
        **{
            "measures": store.measures,
            "webhook_tests": WebhookTests(_fail),
            **options,
        },
    )
