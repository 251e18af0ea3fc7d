"""The HTTP client of the webhooks, which makes a delivery as a signed POST."""

import socket
import time
from contextlib import AsyncExitStack
from typing import Any, Self

import aiohttp
import msgspec

from session_service import __version__
from session_service.domain.signing import delivery_headers
from session_service.domain.webhooks import (
    Outcome,
    Webhook,
    WebhookPolicy,
    retry_after_seconds,
)
from session_service.store.webhooks.queue import Delivery

GONE = "HTTP_410"


class WebhookClient:
    """Connects to public addresses and allowed networks only, also if a name resolves to another.

    Endpoints from the settings may have any address, because the operator chose them. They have a
    connection pool of their own, so that no other endpoint is reached over one of its connections.
    """

    def __init__(self, policy: WebhookPolicy) -> None:
        self._policy = policy
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the client."""
        enter = self._stack.enter_async_context
        self._checked = await enter(_session(self._policy, self._open_checked_socket))
        self._trusted = await enter(_session(self._policy, None))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._stack.aclose()

    async def post(self, webhook: Webhook, delivery: Delivery) -> Outcome:
        """Send the event of a delivery to the endpoint, and return the outcome."""
        event = delivery.event
        body = msgspec.json.encode(event.cloud_event())
        at = delivery.claimed_at
        signatures = webhook.signatures(event.id, at, body)
        headers = delivery_headers(event.id, at // 1000, signatures) | self.more_headers()
        client = self._trusted if webhook.is_from_settings else self._checked
        try:
            async with client.post(
                webhook.target.url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return _outcome(response)
        except TimeoutError:
            return Outcome("TIMEOUT")
        except aiohttp.ClientSSLError:
            return Outcome("TLS")
        except aiohttp.ClientConnectorError as error:
            is_refused = isinstance(error.os_error, _AddressNotAllowedError)
            return Outcome("ADDRESS_NOT_ALLOWED" if is_refused else "CONNECTION")
        except (aiohttp.ClientError, OSError, ValueError):
            return Outcome("CONNECTION")

    def more_headers(self) -> dict[str, str]:
        """Return headers of a delivery besides its own; a client that traces has some."""
        return {}

    def _open_checked_socket(self, address: Any) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if not self._policy.allows(host):
            raise _AddressNotAllowedError(0, "address is not allowed")
        return socket.socket(family, kind, protocol)


class _AddressNotAllowedError(OSError):
    """The name of an endpoint resolves to an address that is neither public nor allowed."""


def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    if 200 <= response.status < 300:
        return Outcome(status=response.status)
    asked = response.headers.get("Retry-After", "")
    retry_after = retry_after_seconds(asked, time.time())
    return Outcome(f"HTTP_{response.status}", retry_after, response.status)


def _session(policy: WebhookPolicy, open_socket: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=open_socket),
        timeout=aiohttp.ClientTimeout(total=policy.timeout_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"session-service/{__version__}"},
        auto_decompress=False,
    )
