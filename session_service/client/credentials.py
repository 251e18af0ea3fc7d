"""The address of the service and the credential of its caller, also from the environment."""

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from session_service.client import memory

DEFAULT_URL = "http://localhost:3000"

Token = str | Callable[[], str | Awaitable[str]]


class Credential(NamedTuple):
    """An API key, or a bearer token, which a function may return anew for every request."""

    api_key: str | None = None
    token: Token | None = None

    def __repr__(self) -> str:
        return "Credential(…)"

    async def header(self) -> dict[str, str]:
        """Return the header that carries it; none for callers without a credential."""
        if self.token is not None:
            token = self.token if isinstance(self.token, str) else self.token()
            if inspect.isawaitable(token):
                token = await token
            return {"Authorization": f"Bearer {token}"}
        return {} if self.api_key is None else {"X-API-KEY": self.api_key}


def find_credential(
    api_key: str | None, token: Token | None, environment: Mapping[str, str] = os.environ
) -> Credential:
    """Return the given credential, or else the key that the environment has.

    SESSION_SERVICE_KEY is a key, and SESSION_SERVICE_KEY_FILE the path of a file with one. Raises
    ValueError if there are two, or none in the file, and OSError if the file cannot be read.
    """
    if api_key and token:
        raise ValueError("api_key and token are both set; the service takes one of them")
    if api_key or token:
        return Credential(api_key or None, token or None)
    key = environment.get("SESSION_SERVICE_KEY")
    path = environment.get("SESSION_SERVICE_KEY_FILE")
    if key and path:
        raise ValueError("SESSION_SERVICE_KEY and SESSION_SERVICE_KEY_FILE are both set")
    return Credential(read_key(path) if path else key or None)


def read_key(path: str) -> str:
    """Return the API key in a file.

    Raises OSError if the file cannot be read, and ValueError if it is not one key: otherwise an
    empty file would be a request without a credential.
    """
    found = Path(path).read_bytes().split()
    if len(found) != 1 or not found[0].isascii():
        raise ValueError(f"{path} must have one API key, and nothing else")
    return found[0].decode()


def find_url(url: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the service, e.g. ``http://localhost:3000``, or ``memory://``.

    By default it is SESSION_SERVICE_URL. Raises ValueError if it is not the URL of a service; the
    message does not repeat it, because it may have a password.
    """
    url = url or environment.get("SESSION_SERVICE_URL") or DEFAULT_URL
    if url == memory.URL:
        return url
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number up to 65535, or a bracket is missing
        is_one = False
    if not is_one:
        raise ValueError(f"the URL of the service must be like {DEFAULT_URL}, or memory://")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the URL of the service must have no user, query or fragment")
    return url.rstrip("/")
