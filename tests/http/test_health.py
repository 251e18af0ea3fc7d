"""GET /sessions/health (contract, "Health")."""

from session_service.web.service import Service
from tests.api import SESSIONS, Client

HEALTH = f"{SESSIONS}/health"


async def test_a_service_in_order_is_healthy(client: Client) -> None:
    """There are no reasons then."""
    async with client.get(HEALTH) as answer:
        body = await answer.json()
    assert (answer.status, body["status"]) == (200, "healthy")
    assert "reasons" not in body


async def test_any_reason_makes_it_degraded(client: Client, service: Service) -> None:
    """All of them are told, whoever gives them; it works all the same."""
    service.health_reasons += [lambda: ["the store is full"], list, lambda: ["a", "b"]]
    async with client.get(HEALTH) as answer:
        body = await answer.json()
    assert (answer.status, body["status"]) == (200, "degraded")
    assert body["reasons"] == ["the store is full", "a", "b"]
