"""The key set of an issuer, from a real HTTP server (access, "Credentials")."""

import asyncio
import gzip
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm

from session_service.access.jwks import KeySet
from session_service.access.jwt import JwtVerifier
from session_service.access_settings import JwtSettings
from session_service.domain.errors import KeySetUnavailable
from session_service.jwt_keys import UnusableKeyError, key_of_jwk
from tests.support.jwts import (
    AUDIENCE,
    ISSUER,
    SECRET,
    KeySetEndpoint,
    assemble,
    claims,
    jwk,
    private_key,
    public_pem,
    sign,
    token,
)
from tests.support.tls import Certificate
from tests.support.waiting import wait_until

DAY = 24 * 3600


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def endpoint() -> AsyncIterator[KeySetEndpoint]:
    """An endpoint with the RSA key ``k1``."""
    made = KeySetEndpoint(jwk("rsa"))
    await made.start()
    yield made
    await made.stop()


class Issuer:
    """A verifier with the key set of an endpoint, by a clock of its own."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.keys = KeySet(url, clock=self.clock)
        settings = JwtSettings(key_set_url=url, issuer=ISSUER, audience=AUDIENCE)
        self.verifier = JwtVerifier(settings, self.keys)

    async def accepts(self, text: str) -> bool:
        return await self.verifier.verify(text, time.time_ns() // 1_000_000) is not None

    async def is_unavailable(self, text: str) -> bool:
        try:
            await self.accepts(text)
        except KeySetUnavailable:
            return True
        return False


@pytest.fixture
def issuer(endpoint: KeySetEndpoint) -> Issuer:
    return Issuer(endpoint.url)


async def test_a_key_set_verifies_tokens(endpoint: KeySetEndpoint, issuer: Issuer) -> None:
    """Tokens of the keys in the set are valid, and the set is fetched once."""
    endpoint.keys = [jwk("rsa", "r"), jwk("p256", "e"), jwk("ed25519", "o"), jwk("rsa2", "s")]
    for kind, algorithm, kid in (
        ("rsa", "RS256", "r"),
        ("rsa2", "PS512", "s"),
        ("p256", "ES256", "e"),
        ("ed25519", "EdDSA", "o"),
    ):
        assert await issuer.accepts(token(kind, algorithm, {"kid": kid}))
    assert not await issuer.accepts(token("rsa", "RS256", {"kid": "s"}))
    assert not await issuer.accepts(token("rsa", "RS256", {"kid": "e"}))
    assert endpoint.requests == 1


async def test_a_token_without_a_key_id_has_the_only_key(
    endpoint: KeySetEndpoint, issuer: Issuer
) -> None:
    """A token without a ``kid`` is verified by the only key of a set, whatever its id."""
    plain = token(private_key("rsa"), "RS256")
    assert await issuer.accepts(plain)
    endpoint.keys = [jwk("rsa", None), jwk("rsa2", None)]
    assert not await Issuer(endpoint.url).accepts(plain)
    endpoint.keys = [jwk("rsa", None)]
    assert await Issuer(endpoint.url).accepts(plain)
    assert not await Issuer(endpoint.url).accepts(token("rsa", "RS256"))  # it has another id


async def test_the_public_key_is_no_secret(endpoint: KeySetEndpoint, issuer: Issuer) -> None:
    """HS256 by the public key is refused, and causes no fetch; so is ``alg: none``."""
    for secret in (public_pem("rsa"), json.dumps(jwk("rsa")), jwk("rsa")["n"]):
        assert not await issuer.accepts(sign(claims(), secret, {"kid": "k1"}))
    algorithms: tuple[Any, ...] = ("none", None, [], {})
    for algorithm in algorithms:
        assert not await issuer.accepts(assemble({"alg": algorithm, "kid": "x"}, claims()))
    assert endpoint.requests == 0


UNUSABLE: list[Any] = [
    {"kty": "oct", "k": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg", "kid": "k1"},
    {"kty": "RSA", "kid": "k1"},
    {"kty": ["RSA"], "kid": "k1"},
    {"kty": "EC", "crv": "P-256", "x": 1, "y": 2, "kid": "k1"},
    {"kty": "OKP", "crv": "X25519", "x": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"},
    {"kid": "k1"},
    None,
    "rsa",
    jwk("rsa", use="enc"),
    jwk("rsa", use=["sig"]),
    jwk("rsa", alg="RSA-OAEP"),
    jwk("rsa", alg="HS256"),
    jwk("rsa", alg=None),
    jwk("rsa", key_ops=["encrypt"]),
    jwk("rsa", key_ops="verify"),
    jwk("rsa", d="AQ"),
    OKPAlgorithm.to_jwk(private_key("ed25519"), as_dict=True),
    jwk("rsa", e="AA"),
    jwk("rsa", n=""),
    jwk("weak"),
    jwk("p256", crv="P-384"),
    jwk("p256", crv="secp256k1"),
    jwk("p256", y=jwk("p256")["x"]),
    jwk("ed25519", crv="Ed448"),
    {**jwk("rsa"), "kid": 1},
]


@pytest.mark.parametrize("key", UNUSABLE)
async def test_a_key_that_cannot_verify_is_skipped(
    key: Any, endpoint: KeySetEndpoint, issuer: Issuer
) -> None:
    """Keys that are symmetric, private, weak, damaged or for another purpose are skipped."""
    with pytest.raises(UnusableKeyError):
        key_of_jwk(key)
    endpoint.keys = [key, jwk("rsa2", "good")]
    assert not await issuer.accepts(token("rsa", "RS256"))
    assert not await issuer.accepts(sign(claims(), "x" * 32, {"kid": "k1"}))
    assert await issuer.accepts(token("rsa2", "RS256", {"kid": "good"}))


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a machine that is busy
@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "key_ops", "kid", "d"]),
        st.none()
        | st.integers()
        | st.text(max_size=50)
        | st.lists(st.text(max_size=5), max_size=2)
        | st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "sig", "AQAB"]),
    )
)
def test_a_key_of_any_form_raises_nothing_else(key: dict[str, Any]) -> None:
    """A member of a key set is usable or not, and nothing else happens."""
    with suppress(UnusableKeyError):
        assert key_of_jwk(key).algorithms


async def test_a_key_set_has_at_most_a_hundred_keys(
    endpoint: KeySetEndpoint, issuer: Issuer
) -> None:
    """Of a set with more keys, the first 100 are used."""
    endpoint.keys = [jwk("ed25519", str(n)) for n in range(101)]
    assert await issuer.accepts(token("ed25519", "EdDSA", {"kid": "99"}))
    assert not await issuer.accepts(token("ed25519", "EdDSA", {"kid": "100"}))


async def test_alg_limits_a_key_to_one_algorithm(endpoint: KeySetEndpoint, issuer: Issuer) -> None:
    """A key with ``alg`` verifies this algorithm only."""
    endpoint.keys = [jwk("rsa", alg="RS512", use="sig", key_ops=["verify"])]
    assert await issuer.accepts(token("rsa", "RS512"))
    assert not await issuer.accepts(token("rsa", "RS256"))


async def test_a_new_key_is_found_at_once(endpoint: KeySetEndpoint, issuer: Issuer) -> None:
    """After a rotation, the first token of the new key is valid; the old key no longer is."""
    old, new = token("rsa", "RS256"), token("rsa2", "RS256", {"kid": "k2"})
    assert await issuer.accepts(old)
    endpoint.keys = [jwk("rsa2", "k2")]
    assert await issuer.accepts(old)
    assert await issuer.accepts(new)
    assert not await issuer.accepts(old)


async def test_an_unknown_key_id_at_the_start_causes_one_fetch(
    endpoint: KeySetEndpoint, issuer: Issuer
) -> None:
    """A key set that was fetched for a request is not fetched again for the same request."""
    assert not await issuer.accepts(token("rsa", "RS256", {"kid": "x"}))
    assert endpoint.requests == 1


async def test_unknown_key_ids_cause_two_fetches_a_minute(
    endpoint: KeySetEndpoint, issuer: Issuer
) -> None:
    """However many tokens with unknown ``kid`` come, the set is fetched twice a minute for them."""
    assert await issuer.accepts(token("rsa", "RS256"))
    for n in range(20):
        kid = ("../../etc/passwd", "k1\x00", "' OR ''='", "http://127.0.0.1/", str(n))[n % 5]
        assert not await issuer.accepts(token("rsa", "RS256", {"kid": kid}))
    assert endpoint.requests == 1 + 2
    assert set(endpoint.paths) == {"/jwks.json"}
    issuer.clock.now += 59.9
    assert not await issuer.accepts(token("rsa", "RS256", {"kid": "x"}))
    assert endpoint.requests == 1 + 2
    issuer.clock.now += 0.1
    for _ in range(5):
        assert not await issuer.accepts(token("rsa", "RS256", {"kid": "x"}))
    assert endpoint.requests == 1 + 2 + 2


async def test_concurrent_requests_share_a_fetch(endpoint: KeySetEndpoint, issuer: Issuer) -> None:
    """A hundred requests cause one fetch; one that is cancelled does not end it for the others."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(_: web.BaseRequest) -> web.Response:
        begun.set()
        await release.wait()
        return web.json_response({"keys": endpoint.keys})

    endpoint.answer = slow
    for kind in ("rsa", "rsa2"):
        endpoint.keys = [jwk(kind, kind)]
        begun.clear()
        release.clear()
        text = token(kind, "RS256", {"kid": kind})
        asked = [asyncio.create_task(issuer.accepts(text)) for _ in range(100)]
        await begun.wait()
        asked[0].cancel()
        release.set()
        assert await asyncio.gather(*asked[1:]) == [True] * 99
    assert endpoint.requests == 2


def redirect(_: web.BaseRequest) -> web.Response:
    return web.Response(status=302, headers={"Location": "/other.json"})


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65536)
    except ConnectionError:
        pass
    return response


async def hanging(_: web.BaseRequest) -> web.Response:
    await asyncio.sleep(3600)
    return web.Response()


async def dripping(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)
    except ConnectionError:
        pass
    return response


def answer(body: Any, **options: Any) -> Callable[[web.BaseRequest], web.Response]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda _: web.Response(body=text, **options)


WRONG: dict[
    str, Callable[[web.BaseRequest], web.StreamResponse | Awaitable[web.StreamResponse]]
] = {
    "500": answer({"keys": [jwk("rsa2", "k2")]}, status=500),
    "204": answer(b"", status=204),
    "203": answer({"keys": [jwk("rsa2", "k2")]}, status=203),
    "a redirect": redirect,
    "endless": endless,
    "too large": answer({"keys": [jwk("rsa2", "k2")], "padding": "x" * 1_048_576}),
    "not JSON": answer(b"<html>keys</html>", content_type="text/html"),
    "compressed": answer(
        gzip.compress(json.dumps({"keys": [jwk("rsa2", "k2")]}).encode()),
        headers={"Content-Encoding": "gzip"},
    ),
    "deep": answer(b"[" * 100_000),
    "an array": answer([jwk("rsa2", "k2")]),
    "a string": answer("keys"),
    "no keys": answer({}),
    "keys of another type": answer({"keys": {"k2": jwk("rsa2", "k2")}}),
    "no usable key": answer({"keys": [jwk("rsa2", "k2", use="enc")]}),
    "an empty set": answer({"keys": []}),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_response_is_no_key_set(
    wrong: str, endpoint: KeySetEndpoint, issuer: Issuer
) -> None:
    """Without a key set such a response is a 503; with one, the last set serves, and no other."""
    known, new = token("rsa", "RS256"), token("rsa2", "RS256", {"kid": "k2"})
    endpoint.answer = WRONG[wrong]
    assert await issuer.is_unavailable(known)
    assert list(issuer.keys.reasons()) != []
    endpoint.recover()
    issuer.clock.now += 2
    assert await issuer.accepts(known)
    assert list(issuer.keys.reasons()) == []
    endpoint.answer = WRONG[wrong]
    assert not await issuer.accepts(new)
    assert await issuer.accepts(known)
    assert set(endpoint.paths) == {"/jwks.json"}


async def test_a_certificate_of_nobody_is_refused(
    endpoint: KeySetEndpoint, certificate: Certificate
) -> None:
    """Over HTTPS the certificate must be one that this machine trusts."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    await endpoint.stop()
    await endpoint.start(tls)
    issuer = Issuer(endpoint.url)
    assert endpoint.url.startswith("https://")
    assert await issuer.is_unavailable(token("rsa", "RS256"))
    assert "Certificate" in next(issuer.keys.reasons())
    assert endpoint.requests == 0


@pytest.mark.parametrize("slow", [hanging, dripping])
async def test_a_slow_endpoint_holds_up_nobody_who_is_known(
    slow: Any, endpoint: KeySetEndpoint, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch ends after its time; meanwhile tokens of known keys are verified."""
    monkeypatch.setattr("session_service.access.jwks.KEY_SET_SECONDS", 0.3)
    known = token("rsa", "RS256")
    assert await issuer.accepts(known)
    endpoint.answer = slow
    asked = asyncio.create_task(issuer.accepts(token("rsa2", "RS256", {"kid": "k2"})))
    await wait_until(lambda: endpoint.requests == 2, description="a fetch has begun")
    assert await issuer.accepts(known)
    assert not asked.done()
    assert not await asked
    assert list(issuer.keys.reasons()) == [
        "the key set of JWT_JWKS_URL cannot be fetched: it took more than 0.3 s"
    ]


async def test_the_last_key_set_serves_for_a_day(endpoint: KeySetEndpoint, issuer: Issuer) -> None:
    """While the endpoint is down, the last key set serves for a day; then tokens get a 503."""
    known = token("rsa", "RS256")
    assert await issuer.accepts(known)
    await endpoint.stop()
    assert not await issuer.accepts(token("rsa2", "RS256", {"kid": "k2"}))
    issuer.clock.now += DAY
    assert await issuer.accepts(known)
    issuer.clock.now += 1
    assert await issuer.is_unavailable(known)
    await endpoint.start()
    assert await issuer.is_unavailable(known)  # the fetches for requests are a second apart
    issuer.clock.now += 1
    assert await issuer.accepts(known)


async def test_an_outage_at_the_start_is_not_a_refusal(
    endpoint: KeySetEndpoint, issuer: Issuer
) -> None:
    """If there never was a key set, tokens get a 503, until the endpoint is up."""
    await endpoint.stop()
    for _ in range(3):
        assert await issuer.is_unavailable(token("rsa", "RS256"))
    await endpoint.start()
    issuer.clock.now += 1
    assert await issuer.accepts(token("rsa", "RS256"))
    assert endpoint.requests == 1


async def test_the_key_set_is_refreshed_in_the_background(endpoint: KeySetEndpoint) -> None:
    """It is fetched when it is ten minutes old, and ten seconds after a fetch that failed."""
    clock = Clock()
    sleeping: asyncio.Queue[None] = asyncio.Queue()
    woken: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        sleeping.put_nowait(None)
        await woken.get()
        clock.now += seconds

    async def let_pass(seconds: float) -> None:
        until = clock.now + seconds
        while clock.now < until:
            woken.put_nowait(None)
            await asyncio.wait_for(sleeping.get(), 10)

    keys = KeySet(endpoint.url, clock=clock, sleep=sleep)
    running = asyncio.create_task(keys.refresh_forever())
    try:
        await asyncio.wait_for(sleeping.get(), 10)
        await let_pass(590)
        assert endpoint.requests == 1
        await let_pass(10)
        assert endpoint.requests == 2
        await endpoint.stop()
        assert await keys.find("k2", "RS256") is None  # this fetch fails
        endpoint.keys = [jwk("rsa2", "k2")]
        await endpoint.start()
        await let_pass(10)
        assert endpoint.requests == 3
        assert list(keys.reasons()) == []
        assert await keys.find("k2", "RS256") is not None
        await let_pass(590)
        assert endpoint.requests == 3
        await let_pass(10)
        assert endpoint.requests == 4
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_stop_ends_a_fetch(endpoint: KeySetEndpoint) -> None:
    """The end of the background task ends the fetch that is under way."""
    closed = asyncio.Event()

    async def until_closed(_: web.BaseRequest) -> web.Response:
        try:
            await asyncio.sleep(3600)
        finally:
            closed.set()
        return web.Response()

    endpoint.answer = until_closed
    running = asyncio.create_task(KeySet(endpoint.url).refresh_forever())
    await wait_until(lambda: endpoint.requests == 1, description="a fetch has begun")
    running.cancel()
    await asyncio.wait([running])
    await asyncio.wait_for(closed.wait(), 3)  # sooner than its own time


async def test_a_failure_is_logged_once(
    endpoint: KeySetEndpoint, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a line when fetches begin to fail, and one when they work again."""
    caplog.set_level("INFO", "session_service")
    await endpoint.stop()
    for _ in range(3):
        assert await issuer.is_unavailable(token("rsa", "RS256"))
        issuer.clock.now += 1
    endpoint.keys.append({"kty": "oct", "k": SECRET})
    await endpoint.start()
    assert await issuer.accepts(token("rsa", "RS256"))
    assert [line.message for line in caplog.records] == [
        "the key set cannot be fetched",
        "the key set was fetched again",
        "keys of the key set are not used",
    ]
    assert vars(caplog.records[2])["skipped"] == ["key 1 has a kty other than RSA, EC and OKP"]
