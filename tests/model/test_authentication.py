"""Whatever is in the place of a credential, the request is refused, and not by an error of ours."""

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from session_service.access.authenticator import Authenticator
from session_service.access.jwt import JwtVerifier
from session_service.access.session_tokens import SessionTokens
from session_service.access_settings import JwtSettings, Secret
from session_service.composition import open_store
from session_service.domain.credentials import ALL_PERMISSIONS
from session_service.store.api_keys.registry import ApiKeyRegistry
from tests.model.test_rules import SETTINGS
from tests.support.api import SESSIONS
from tests.support.jwts import AUDIENCE, ISSUER, SECRET, token
from tests.support.service import ServiceUnderTest, app_state

ENVIRONMENT_KEY = "a key in the environment, of 40 characters"
KEY = b"the key"  # stands for one that is valid, which is made for each example

NAMES = st.sampled_from([b"X-API-KEY", b"Authorization", b"x-api-key", b"AUTHORIZATION"])
BYTES = st.binary(max_size=40).map(lambda each: each.translate(None, b"\r\n"))
STARTS = st.sampled_from(
    [b"", b"Bearer ", b"bearer  ", b"Basic ", b"Bearer", b"Bearer ssk_", b"sst_", b"Bearer sst_"]
)
PARTS = st.sampled_from(
    [b"ssk_7k2m9x4q_", b"sst_AAAA_", b"A" * 43, b"e30", b"eyJhbGciOiJub25lIn0", b".", b"..", b"_"]
)
VALUES = st.builds(lambda *parts: b"".join(parts), STARTS, PARTS | BYTES, PARTS | BYTES, BYTES)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=3)
TOKENS = st.lists(VALUES, max_size=2)


@settings(max_examples=200, deadline=None)
@given(fields=FIELDS, tokens=TOKENS, is_stream=st.booleans(), breaks=st.integers(0, 200))
@example(fields=[(b"X-API-KEY", KEY), (b"X-API-KEY", KEY)], tokens=[], is_stream=False, breaks=0)
@example(fields=[(b"X-API-KEY", KEY)], tokens=[KEY], is_stream=True, breaks=0)
@example(fields=[(b"Authorization", b"Bearer JWT")], tokens=[], is_stream=False, breaks=30)
@example(fields=[(b"Authorization", b"Bearer JWT")], tokens=[], is_stream=False, breaks=150)
def test_any_bytes_are_refused(
    fields: list[tuple[bytes, bytes]], tokens: list[bytes], *, is_stream: bool, breaks: int
) -> None:
    """Any header bytes, repeated fields, and any ``?token=`` are a 400, a 401 or a 403."""
    assert asyncio.run(status_of(fields, tokens, is_stream, breaks)) in (400, 401, 403)


async def status_of(
    fields: list[tuple[bytes, bytes]], tokens: list[bytes], is_stream: bool, breaks: int
) -> int:
    """Return the status of a response; the byte ``breaks`` of a valid JWT is changed."""
    async with open_store(SETTINGS) as store:
        registry = ApiKeyRegistry(store.executor, store.keys, store.quarantine)
        registered = await registry.add("any", ALL_PERMISSIONS)
        assert registered
        jwt = bytearray(token().encode())
        jwt[breaks % (len(jwt) - 1)] ^= 2  # some bits of the last one mean nothing
        server = ServiceUnderTest(app_state(store, access=await all_verifiers(store)))
        await server.start_server()
        made = {KEY: registered[1].encode(), b"Bearer JWT": b"Bearer " + bytes(jwt)}
        lines = [name + b": " + made.get(value, value) for name, value in fields]
        query = "&".join(f"token={quote_all(made.get(each, each))}" for each in tokens)
        path = f"/api/messaging/events?{query}" if is_stream else f"{SESSIONS}?{query}"
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
        await server.close()
        return int(answer.split(b" ")[1])


async def all_verifiers(store: Any) -> Authenticator:
    await store.api_keys.refresh()
    environment_key = Secret(ENVIRONMENT_KEY)
    jwts = JwtSettings(secret=Secret(SECRET), issuer=ISSUER, audience=AUDIENCE)
    return Authenticator(
        keys=store.api_keys,
        sessions=SessionTokens((Secret(SECRET),), store.api_keys, environment_key),
        jwts=JwtVerifier(jwts),
        token=environment_key,
    )


def quote_all(data: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in data)
