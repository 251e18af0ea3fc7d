"""Posts events to an endpoint on this machine, as the service posts deliveries."""

import time
from typing import Self

import aiohttp
import msgspec

from session_service import __version__
from session_service.api.events import CloudEvent
from session_service.api.webhooks import WebhookTested
from session_service.domain.signing import delivery_headers, read_secret, signature
from session_service.domain.webhooks import WebhookPolicy

_SECONDS = WebhookPolicy().timeout_seconds


class Forwarder:
    """An endpoint, which gets events with the headers and body of a delivery.

    Its address is not checked: the caller chose it, and the request is the caller's.
    """

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._key = read_secret(secret)

    async def __aenter__(self) -> Self:
        """Open the client."""
        self._client = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"session-service/{__version__}"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._client.close()

    async def post(self, event: CloudEvent) -> WebhookTested:
        """Sign an event, send it once, and return the outcome."""
        body = msgspec.json.encode(event)
        began = time.monotonic()
        status, failure = await self._send(event.id, body)
        return WebhookTested(
            delivered=failure is None,
            status=status,
            duration_ms=round(1000 * (time.monotonic() - began)),
            failure=failure,
            event=msgspec.to_builtins(event),
        )

    async def _send(self, event_id: str, body: bytes) -> tuple[int | None, str | None]:
        """Return the status of the response, and the failure, e.g. ``TIMEOUT``."""
        at = int(time.time())
        headers = delivery_headers(event_id, at, signature(self._key, event_id, at, body))
        try:
            async with self._client.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                is_made = 200 <= response.status < 300
                return response.status, None if is_made else f"HTTP_{response.status}"
        except TimeoutError:
            return None, "TIMEOUT"
        except aiohttp.ClientSSLError:
            return None, "TLS"
        except (aiohttp.ClientError, OSError, ValueError):
            return None, "CONNECTION"
