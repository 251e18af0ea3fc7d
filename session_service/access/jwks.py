"""The key set of an issuer of JWTs: fetched from JWT_JWKS_URL, and kept (access, "Credentials").

Import this only if a setting of JWTs is set: it needs the extra ``jwt``.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import msgspec

from session_service import __version__
from session_service.domain.budgets import (
    KEY_SET_ASKED,
    KEY_SET_ASKED_SECONDS,
    KEY_SET_BYTES,
    KEY_SET_KEYS,
    KEY_SET_LAST_SECONDS,
    KEY_SET_PAUSE_SECONDS,
    KEY_SET_REFRESH_SECONDS,
    KEY_SET_RETRY_SECONDS,
    KEY_SET_SECONDS,
)
from session_service.domain.errors import KeySetUnavailable
from session_service.jwt_keys import (
    PUBLIC_ALGORITHMS,
    UnusableKeyError,
    VerificationKey,
    key_of_jwk,
)

log = logging.getLogger(__name__)


class FetchError(Exception):
    """A key set could not be fetched; the text is the reason, e.g. "it answered 500"."""


class KeySet:
    """The public keys of an issuer by their key id (``kid``).

    ``refresh_forever`` fetches them when they are ten minutes old. ``find`` also does if it does
    not know a key id, at most twice a minute; concurrent calls share a fetch. While fetches fail,
    the last key set serves for a day. A response without a usable key is a failure, too.

    Each key has the algorithms of its own type, so an issuer can change from one type to another;
    symmetric keys are never used. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._url, self._clock, self._sleep = url, clock, sleep
        self._keys: list[tuple[str | None, VerificationKey]] = []
        self._fetched_at = self._tried_at = -math.inf
        self._asked_at: deque[float] = deque((-math.inf,) * KEY_SET_ASKED, KEY_SET_ASKED)
        self._problem = ""  # of the last fetch
        self._skipped: list[str] = []  # keys of the set that cannot be used
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: object) -> VerificationKey | None:
        """Return the key with the id and the algorithm, or None; raises KeySetUnavailable.

        A token without a key id finds the key of a set that has only one.
        """
        if algorithm not in PUBLIC_ALGORITHMS:  # nor does such a token cause a fetch
            return None
        if self._is_too_old():
            if self._clock() - self._tried_at >= KEY_SET_PAUSE_SECONDS:
                await self._refresh()
            if self._is_too_old():
                raise KeySetUnavailable(self._problem)
        elif kid is not None and all(kid != known for known, _ in self._keys) and self._may_ask():
            await self._refresh()
        for known, key in self._keys:
            is_it = kid == known if kid is not None else len(self._keys) == 1
            if is_it and algorithm in key.algorithms:
                return key
        return None

    async def refresh_forever(self) -> None:
        """Fetch the key set now and when it is ten minutes old, until this is cancelled.

        After a fetch that failed, also one for a request, it tries again within ten seconds.
        """
        try:
            while True:
                if self._problem or self._clock() - self._fetched_at >= KEY_SET_REFRESH_SECONDS:
                    await self._refresh()
                await self._sleep(KEY_SET_RETRY_SECONDS)
        finally:
            if self._fetching is not None:
                self._fetching.cancel()

    def reasons(self) -> Iterator[str]:
        """Yield the reasons why health is degraded: that the last fetch failed."""
        if self._problem:
            yield f"the key set of JWT_JWKS_URL cannot be fetched: {self._problem}"

    def _is_too_old(self) -> bool:
        return self._clock() - self._fetched_at > KEY_SET_LAST_SECONDS

    def _may_ask(self) -> bool:
        """Count a fetch for an unknown key id, unless one is under way; return False if too many.

        Anybody can send an unknown key id, and the issuer should not notice.
        """
        now = self._clock()
        if self._fetching is None:
            if now - self._asked_at[0] < KEY_SET_ASKED_SECONDS:
                return False
            self._asked_at.append(now)
        return True

    async def _refresh(self) -> None:
        """Fetch the key set, or wait for the fetch that is under way."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch_and_keep())
        await asyncio.shield(self._fetching)  # others may wait for it, too

    async def _fetch_and_keep(self) -> None:
        try:
            keys, skipped = _read(await _fetch(self._url))
        except FetchError as error:
            if not self._problem:  # not again for each attempt
                log.warning("the key set cannot be fetched", extra={"reason": str(error)})
            self._problem = str(error)
        else:
            if self._problem:
                log.info("the key set was fetched again")
            if skipped != self._skipped:  # not again for each fetch
                log.info("keys of the key set are not used", extra={"skipped": skipped})
            self._skipped = skipped
            self._keys, self._problem, self._fetched_at = keys, "", self._clock()
        finally:
            self._tried_at = self._clock()
            self._fetching = None


async def _fetch(url: str) -> bytes:
    """Return the body of a 200 in five seconds, at most 1 MiB; raises FetchError.

    Redirects are not followed: they would lead to another endpoint than the operator chose. The
    content type is not checked, since issuers send several.
    """
    body = bytearray()
    headers = {
        "Accept": "application/jwk-set+json, application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"session-service/{__version__}",
    }
    try:
        async with (
            asyncio.timeout(KEY_SET_SECONDS),
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), headers=headers, auto_decompress=False
            ) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise FetchError(f"it answered {response.status}")
            async for part in response.content.iter_any():
                body += part
                if len(body) > KEY_SET_BYTES:
                    raise FetchError(f"it has more than {KEY_SET_BYTES:,} bytes")
    except TimeoutError:
        raise FetchError(f"it took more than {KEY_SET_SECONDS:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(type(error).__name__) from None
    return bytes(body)


def _read(body: bytes) -> tuple[list[tuple[str | None, VerificationKey]], list[str]]:
    """Read a JSON Web Key Set; return its keys with their ids, and a sentence for each other key.

    The same key id may stand for keys of different types (RFC 7517, section 4.5). Raises FetchError
    if there is no usable key.
    """
    try:
        members = msgspec.json.decode(body)["keys"]
    except (msgspec.DecodeError, RecursionError, TypeError, KeyError):
        members = None
    if not isinstance(members, list):
        raise FetchError("it is not a JSON Web Key Set")
    keys: list[tuple[str | None, VerificationKey]] = []
    skipped = [f"all after the first {KEY_SET_KEYS}"] if len(members) > KEY_SET_KEYS else []
    for n, member in enumerate(members[:KEY_SET_KEYS]):
        try:
            key = key_of_jwk(member)
        except UnusableKeyError as error:
            skipped.append(f"key {n} {error}")
        else:
            keys.append((member.get("kid"), key))
    if not keys:
        raise FetchError("it has no usable key")
    return keys, skipped
