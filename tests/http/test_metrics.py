"""GET /metrics: who may read it, and what a request leaves in it."""

import re

import pytest

from session_service.composition import Store
from session_service.domain.credentials import Permission
from session_service.web.http.state import AppState
from tests.support import access
from tests.support.access import KnownCredentials
from tests.support.api import SESSIONS, Client, assert_error, create, send_raw
from tests.support.service import app_state
from tests.support.sse import follow

METRICS = "/metrics"
UNKNOWN = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"
DURATIONS = "http_server_request_duration_seconds_count"


async def numbers(client: Client) -> dict[str, float]:
    """Read the metrics; return the number of each series, e.g. of ``a_total{by="key"}``."""
    response = await client.get(METRICS)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    lines = (await response.text()).splitlines()
    return {
        name: float(number)
        for line in lines
        if not line.startswith("#")
        for name, number in [line.rsplit(" ", 1)]
    }


def requests(method: str, route: str, status: int) -> str:
    return (
        f'{DURATIONS}{{http_request_method="{method}",http_response_status_code="{status}",'
        f'http_route="{route}"}}'
    )


async def test_requests_count_by_method_route_and_status(client: Client) -> None:
    """Each request counts once, for the path of its route and never for an id."""
    session_id = (await create(client))["sessionId"]
    for _ in range(2):
        await client.delete(f"{SESSIONS}/{session_id}")
    await client.head(f"{SESSIONS}/{session_id}")
    await client.get("/nowhere")
    await client.request("PROPFIND", "/nowhere")
    found = await numbers(client)
    route = f"{SESSIONS}/{{sessionId}}"
    assert {name: number for name, number in found.items() if name.startswith(DURATIONS)} == {
        requests("POST", SESSIONS, 201): 1,
        requests("DELETE", route, 200): 1,
        requests("DELETE", route, 404): 1,
        requests("HEAD", route, 404): 1,
        requests("GET", "", 404): 1,
        requests("_OTHER", "", 404): 1,
    }
    assert found["http_server_active_requests"] == 1  # the one that reads them
    assert found['db_client_operation_duration_seconds_count{db_operation_name="end"}'] == 2
    assert session_id not in str(found)


async def test_files_of_pages_share_a_route(client: Client) -> None:
    """The files of pages count together, and the pages each."""
    for path in ("/admin", "/assets/pages.css", "/assets/admin/app.js"):
        await client.get(path)
    found = await numbers(client)
    assert found[requests("GET", "/admin", 200)] == 1
    assert found[requests("GET", "/assets/{file}", 200)] == 2


async def test_transitions_count_once(client: Client) -> None:
    """A replayed request and one that ends nothing count no transition."""
    key = {"Idempotency-Key": "one"}
    body = {"userId": access.ANN, "agentId": access.AGENT}
    for _ in range(2):
        response = await client.post(SESSIONS, json=body, headers=key)
        session_id = (await response.json())["sessionId"]
    await client.post(SESSIONS, json={**body, "getOrCreate": True})
    await client.post(f"{SESSIONS}/{session_id}/renew")
    for _ in range(2):
        await client.delete(f"{SESSIONS}/{session_id}")
    for _ in range(2):
        await create(client, userId=access.BOB)
    await client.delete(SESSIONS, params={"userId": access.BOB})
    found = await numbers(client)
    names = ("created", "renewed", "expiring", "expired", "ended")
    assert [found[f'session_service_transitions_total{{type="{name}"}}'] for name in names] == [
        3, 1, 0, 0, 3,
    ]  # fmt: skip


async def test_refusals_count_by_reason(client: Client) -> None:
    """A host, an origin and bytes that are not HTTP count apart."""
    await client.get(SESSIONS, headers={"Host": "evil.example.org"})
    await client.post(SESSIONS, headers={"Origin": "https://evil.example.org"})
    assert (await send_raw(client, "GET secret\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    found = await numbers(client)
    reasons = {
        name: number
        for name, number in found.items()
        if name.startswith("session_service_refused_total") and number
    }
    assert reasons == {
        'session_service_refused_total{reason="host"}': 1,
        'session_service_refused_total{reason="origin"}': 1,
        'session_service_refused_total{reason="malformed"}': 1,
    }


async def test_an_overload_counts_for_its_route(service: AppState, client: Client) -> None:
    """A request that is refused before its handler counts for its route, as the objective asks."""
    for _ in range(2001):
        service.admission.request_begins()
    await assert_error(await client.get(f"{SESSIONS}/{UNKNOWN}"), 503, "OVERLOADED")
    found = await numbers(client)
    assert found[requests("GET", f"{SESSIONS}/{{sessionId}}", 503)] == 1
    assert found['session_service_refused_total{reason="overload"}'] == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"X-Real-IP": "192.0.2.1"},
        {"Via": "1.1 proxy"},
        {"Host": "rebound"},
    ],
)
async def test_a_proxy_or_a_page_in_between_is_refused(
    client: Client, headers: dict[str, str]
) -> None:
    """Loopback alone is no proof that the reader is on this machine."""
    response = await client.get(METRICS, headers=headers)
    error = await assert_error(response, 403, "FORBIDDEN")
    assert "METRICS_PORT" in error["details"]


async def test_openmetrics_is_served_on_request(client: Client) -> None:
    """A scraper that asks for OpenMetrics gets it."""
    response = await client.get(METRICS, headers={"Accept": "application/openmetrics-text"})
    assert response.content_type == "application/openmetrics-text"
    assert (await response.text()).endswith("# EOF\n")


@pytest.mark.parametrize("media_type", ["text/plain", "application/openmetrics-text"])
async def test_a_version_that_is_no_number_gets_the_default(
    client: Client, media_type: str
) -> None:
    """An Accept header that cannot be read makes no error."""
    response = await client.get(METRICS, headers={"Accept": f"{media_type}; version=x"})
    assert (response.status, response.content_type) == (200, "text/plain")


class TestWithAccessControl:
    """Through a proxy, a credential needs the scope ``metrics:read``."""

    @pytest.fixture
    def service(self, store: Store) -> AppState:
        known = KnownCredentials()
        known.known["unscoped"] = access.key("unscoped", None, Permission.METRICS_READ)
        return app_state(store, access=known)

    @pytest.mark.parametrize(
        ("key", "status"), [("all", 200), ("unscoped", 403), ("nobody", 401), (None, 401)]
    )
    async def test_a_credential_needs_the_scope(
        self, client: Client, key: str | None, status: int
    ) -> None:
        """A key with the scope reads them; others are refused like at any route."""
        headers = {"X-Forwarded-For": "192.0.2.1"} | ({"X-API-KEY": key} if key else {})
        response = await client.get(METRICS, headers=headers)
        assert response.status == status

    async def test_this_machine_needs_none(self, client: Client) -> None:
        """A client on this machine reads them without a credential, and nothing else."""
        assert (await client.get(METRICS)).status == 200
        assert (await client.get(SESSIONS)).status == 401


async def test_no_label_has_an_id(client: Client) -> None:
    """Whatever clients send, no UUID and no text of theirs becomes a label."""
    await client.get(f"{SESSIONS}/{access.ANN}/{access.BOB}")
    await client.get("/a-token-in-a-path")
    text = await (await client.get(METRICS)).text()
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", text)
    assert "a-token" not in text


async def test_live_events_of_a_stream_count_and_replays_do_not(client: Client) -> None:
    """An event that happened before the stream began has no delay."""
    url = f"{SESSIONS}/{(await create(client))['sessionId']}"
    source = await follow(client, f"{url}/events")
    await client.post(f"{url}/renew")
    (renewed,) = await source.take(1)
    await client.delete(url)
    await source.rest()
    again = await follow(client, f"{url}/events", renewed.id)
    assert [each.name for each in await again.rest()] == ["session.ended"]
    counts = await numbers(client)
    assert counts['session_service_event_delivery_seconds_count{channel="sse"}'] == 2
