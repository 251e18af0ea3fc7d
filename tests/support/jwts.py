"""An issuer of JWTs for the tests: its keys, its tokens, and the HTTP endpoint of its key set."""

import asyncio
import base64
import hmac
import json
import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://id.example.org/"
AUDIENCE = "https://sessions.example.org"
SECRET = "a shared secret of 64 bytes, which is long enough for HS512, too"  # noqa: S105 - an example


@cache
def private_key(kind: str = "rsa") -> Any:
    """Make the key of a kind once: rsa, weak, p256, p384, p521, ed25519, or rsa with a number."""
    if kind.startswith("p"):
        return ec.generate_private_key(
            {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[kind]
        )
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 1024 if kind == "weak" else 2048)


def public_pem(kind: str = "rsa") -> str:
    """Return the public key of a kind in PEM form."""
    public = private_key(kind).public_key()
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def private_pem(kind: str = "rsa") -> str:
    """Return the private key of a kind in PEM form."""
    key = private_key(kind)
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def jwk(kind: str = "rsa", kid: str | None = "k1", **members: Any) -> dict[str, Any]:
    """Return the public key of a kind as a member of a key set."""
    algorithm: Any = RSAAlgorithm
    if kind.startswith("p"):
        algorithm = ECAlgorithm
    elif kind == "ed25519":
        algorithm = OKPAlgorithm
    made = algorithm.to_jwk(private_key(kind).public_key(), as_dict=True)
    return {**made, **({} if kid is None else {"kid": kid}), **members}


def claims(**changed: Any) -> dict[str, Any]:
    """Return valid claims of the user ``auth0|42``; a claim that is ``...`` is left out."""
    now = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "auth0|42", "iat": now, "exp": now + 600}
    return {name: value for name, value in {**made, **changed}.items() if value is not ...}


def token(
    key: Any = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
    **changed: Any,
) -> str:
    """Sign a token with valid claims, changed as given; a kind of key such as rsa has a key id."""
    if isinstance(key, str) and key != SECRET:
        key, headers = private_key(key), {"kid": "k1", **(headers or {})}
    return jwt.encode(claims(**changed), key, algorithm, headers)


def assemble(header: Any, payload: Any, signature: bytes = b"") -> str:
    """Put a token together from any parts, which ``jwt.encode`` would not make."""
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def sign(
    payload: Any, secret: str = SECRET, header: dict[str, Any] | None = None, digest: str = "sha256"
) -> str:
    """Sign any payload and header by HMAC, also those that a library refuses to sign."""
    signed = assemble({"alg": "HS256", **(header or {})}, payload).removesuffix(".")
    mac = hmac.digest(secret.encode(), signed.encode(), digest)
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


class KeySetEndpoint:
    """A key set on 127.0.0.1. ``answer`` replaces its response; ``requests`` counts them."""

    def __init__(self, *keys: Any) -> None:
        self.keys: list[Any] = list(keys)
        self.answer: Callable[[web.BaseRequest], Any] = self._key_set
        self.requests = 0
        self.paths: list[str] = []
        self.url = ""
        self._port = 0
        self._runner: web.ServerRunner | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a free port, or again on the same port after ``stop``."""
        server = web.Server(self._respond, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=tls).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._port}/jwks.json"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def recover(self) -> None:
        """Serve the key set again."""
        self.answer = self._key_set

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        self.paths.append(request.path)
        response = self.answer(request)
        if asyncio.iscoroutine(response):
            response = await response
        assert isinstance(response, web.StreamResponse)
        return response

    def _key_set(self, _: web.BaseRequest) -> web.Response:
        return web.json_response({"keys": self.keys})
