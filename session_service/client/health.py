"""The operations on the health of the service, none of which is repeated if it fails."""

from session_service.api.health import ProbeStatus, SessionsHealth
from session_service.client.resource import Resource
from session_service.client.transport import operation, path_of


class Health(Resource):
    """``service.health``: the counts, and the probes."""

    @operation("getSessionsHealth")
    async def get(self, *, timeout: float | None = None) -> SessionsHealth:
        """Return the counts and the status; raises StoreUnavailable if it is unhealthy."""
        return await self._transport.call(
            "GET", path_of("sessions", "health"), SessionsHealth, timeout=timeout, max_retries=0
        )

    @operation("healthz")
    async def live(self, *, timeout: float | None = None) -> ProbeStatus:
        """Return ``ok`` if the process responds."""
        return await self._transport.call(
            "GET", "/healthz", ProbeStatus, timeout=timeout, max_retries=0
        )

    @operation("readyz")
    async def ready(self, *, timeout: float | None = None) -> ProbeStatus:
        """Return ``ready``; raises NotReady or StoreUnavailable if the service is not."""
        return await self._transport.call(
            "GET", "/readyz", ProbeStatus, timeout=timeout, max_retries=0
        )
