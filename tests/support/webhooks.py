"""An endpoint of a webhook."""

import asyncio
import json
from collections import defaultdict
from typing import Any

from aiohttp import web

from session_service.domain.webhooks import read_secret, signature

WEBHOOKS = "/api/messaging/webhooks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the specification


class Receiver:
    """An endpoint on 127.0.0.1, which keeps what it accepted by the session, in order."""

    def __init__(self) -> None:
        self.status = 204  # what it answers
        self.adds: dict[str, str] = {}  # headers of its answers
        self.is_hanging = False
        self.asked = 0
        self.strayed = 0  # how often it was followed to where it redirected
        self.told: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.headers: list[Any] = []
        self.url = ""
        self._port = 0
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen, again on the same port where it was stopped."""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}/hook"

    async def stop(self) -> None:
        """Be not there any more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/hook":
            self.strayed += 1
            return web.Response()
        self.asked += 1
        body = await request.read()
        headers = request.headers
        signed = signature(
            read_secret(SECRET), headers["webhook-id"], int(headers["webhook-timestamp"]), body
        )
        assert signed in headers["webhook-signature"].split(" ")
        if self.is_hanging:
            await asyncio.sleep(3600)
        if self.status < 300:
            event = json.loads(body)
            assert event["id"] == headers["webhook-id"]
            self.told[event["subject"]].append(event)
            self.headers.append(headers)
        return web.Response(status=self.status, headers={"Location": "/elsewhere", **self.adds})

    def types(self, session_id: str) -> list[str]:
        """What was told of a session, each event once, where it came first."""
        events = {event["id"]: event["type"] for event in self.told[session_id]}
        return [name.removeprefix("session.") for name in events.values()]
