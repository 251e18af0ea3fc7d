"""A webhook endpoint for the tests."""

import asyncio
import json
from collections import defaultdict
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

WEBHOOKS = "/api/messaging/webhooks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - an example of the specification


class Receiver:
    """An endpoint on 127.0.0.1 that keeps the events it accepts, by session.

    It verifies their signatures with the library of Standard Webhooks, as a receiver would.
    """

    def __init__(self) -> None:
        self.secret = SECRET
        self.status = 204  # of its responses
        self.extra_headers: dict[str, str] = {}  # of its responses
        self.is_hanging = False
        self.requests = 0
        self.redirects_followed = 0
        self.received: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.headers: list[Any] = []
        self.url = ""
        self._port = 0
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen on a free port, or again on the same port after ``stop``."""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}/hook"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/hook":
            self.redirects_followed += 1
            return web.Response()
        self.requests += 1
        body = await request.read()
        headers = request.headers
        Webhook(self.secret).verify(body, dict(headers))
        if self.is_hanging:
            await asyncio.sleep(3600)
        if self.status < 300:
            event = json.loads(body)
            assert event["id"] == headers["webhook-id"]
            self.received[event["subject"]].append(event)
            self.headers.append(headers)
        return web.Response(
            status=self.status, headers={"Location": "/elsewhere", **self.extra_headers}
        )

    def types(self, session_id: str) -> list[str]:
        """Return the types of a session's events, such as ``created``, each event once."""
        events = {event["id"]: event["type"] for event in self.received[session_id]}
        return [name.removeprefix("session.") for name in events.values()]
