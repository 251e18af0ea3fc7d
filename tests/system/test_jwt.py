"""JWTs with a running service: its settings, its key set, and the extra that it needs."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.api import SESSIONS
from tests.support.jwts import AUDIENCE, ISSUER, SECRET, KeySetEndpoint, jwk, token
from tests.support.processes import Start, environment
from tests.support.waiting import wait_until

NAMES = {"REDIS_URL": "memory://", "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}


@pytest.fixture
async def endpoint() -> AsyncIterator[KeySetEndpoint]:
    made = KeySetEndpoint(jwk("rsa"))
    await made.start()
    yield made
    await made.stop()


async def status(client: ClientSession, text: str) -> int:
    headers = {"Authorization": f"Bearer {text}"}
    async with client.get(SESSIONS, headers=headers) as response:
        return response.status


async def health(client: ClientSession, text: str) -> str:
    headers = {"Authorization": f"Bearer {text}"}
    async with client.get(f"{SESSIONS}/health", headers=headers) as response:
        return await response.text()


async def test_the_key_set_is_fetched_at_the_start_and_after_a_rotation(
    start: Start, endpoint: KeySetEndpoint
) -> None:
    """A service fetches the key set before there is a request, and again for a new key."""
    service = start(**NAMES, JWT_JWKS_URL=endpoint.url)
    async with service.client() as client:
        await wait_until(lambda: endpoint.requests == 1, description="the first fetch")
        assert await status(client, token("rsa", "RS256")) == 200
        endpoint.keys = [jwk("ed25519", "k2")]
        new = token("ed25519", "EdDSA", {"kid": "k2"})
        assert await status(client, new) == 200
        assert await status(client, token("rsa", "RS256", jti="another")) == 401
        assert await status(client, new.replace(".", "", 1)) == 401
        assert endpoint.requests == 3  # one at the start, and one for each kid that was unknown
        assert "degraded" not in await health(client, new)
    assert not any(part in service.stderr for part in new.split("."))


async def test_a_service_starts_without_the_key_set(start: Start, endpoint: KeySetEndpoint) -> None:
    """While the endpoint is down, the service starts, answers 503, and recovers."""
    await endpoint.stop()
    service = start(**NAMES, JWT_JWKS_URL=endpoint.url)
    text = token("rsa", "RS256")
    async with service.client() as client:
        assert await status(client, text) == 503
        await endpoint.start()

        async def has_recovered() -> bool:
            return await status(client, text) == 200

        await wait_until(has_recovered, description="the key set is fetched")
    events = [line["event"] for line in service.log]
    assert events.count("the key set cannot be fetched") == 1
    assert events.count("the key set was fetched again") == 1


async def test_a_secret_in_a_file_verifies_tokens(start: Start, tmp_path: Path) -> None:
    """A secret may be in a file; it is in no line of the log."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    service = start(**NAMES, JWT_SECRET_FILE=str(file), LOG_LEVEL="debug")
    async with service.client() as client:
        assert await status(client, token()) == 200
        assert await status(client, token(SECRET[:-1].encode())) == 401
    assert SECRET not in service.stderr


def test_only_settings_of_jwts_need_the_extra(tmp_path: Path) -> None:
    """Without the extra a setting of JWTs stops the start, with one line; nothing else needs it."""
    code = (
        "import sys; sys.modules['jwt'] = sys.modules['cryptography'] = None; "
        "import session_service.process.serve; from session_service.cli import main; "
        "sys.exit(main(['serve']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(tmp_path, **NAMES, JWT_SECRET=SECRET),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "JWT_SECRET needs pip install 'session-service[jwt]'\n"
