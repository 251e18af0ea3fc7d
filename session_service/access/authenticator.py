"""Finds the credential of a request: one function for REST, streams and Socket.IO's CONNECT.

The first characters of a credential tell its kind: ``ssk_`` an API key, ``sst_`` a session token;
a JWT has two dots, and ``ELIZA_SERVER_AUTH_TOKEN`` is any other text.
"""

import hmac
import time
from typing import Protocol

from session_service.access_settings import Secret
from session_service.domain.credentials import (
    ALL_PERMISSIONS,
    ENVIRONMENT_KEY,
    ENVIRONMENT_KEY_NAME,
    Credential,
    Kind,
)
from session_service.domain.errors import NotAuthenticated
from session_service.domain.ids import is_uuid

_LONGEST = 16_384  # characters: more than any header that the server takes


class Verifier(Protocol):
    """Verifies one kind of credentials in memory. ``now`` is in epoch milliseconds."""

    def find(self, text: str, now: int) -> Credential | None:
        """Return the credential of a text that is valid now, or None. Raises StoreUnavailable."""


class KeyVerifier(Verifier, Protocol):
    """Verifies API keys."""

    def is_revoked(self, key_id: str, now: int) -> bool:
        """Return whether a key is revoked, expired or unknown. Raises StoreUnavailable."""


class TokenVerifier(Protocol):
    """Verifies JWTs, for which it may have to wait for a key set."""

    def cached(self, text: str, now: int) -> Credential | None:
        """Return the credential of a token that was verified shortly before, or None."""

    async def verify(self, text: str, now: int) -> Credential | None:
        """Return the credential of a token, or None; raises KeySetUnavailable.

        Its ``expires`` may be past: access has a leeway of 30 s, what lasts has none.
        """


class Authenticator:
    """Verifies credentials. A verifier that is None makes all of its kind invalid."""

    def __init__(
        self,
        *,
        keys: KeyVerifier | None = None,
        sessions: Verifier | None = None,
        jwts: TokenVerifier | None = None,
        token: Secret | None = None,
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._jwts = jwts
        self._token = token.value.encode() if token else None
        self._server = Credential(
            kind=Kind.KEY,
            id=ENVIRONMENT_KEY,
            name=ENVIRONMENT_KEY_NAME,
            permissions=ALL_PERMISSIONS,
        )

    def find(self, text: str | None) -> Credential | None:
        """Return the credential of a request's text if nothing has to be waited for, or None.

        After None, ``identify`` knows whether the text is valid. Raises StoreUnavailable.
        """
        if not text or len(text) > _LONGEST:
            return None
        now = time.time_ns() // 1_000_000
        found: Credential | None = None
        if text.startswith("ssk_"):
            found = self._keys.find(text, now) if self._keys else None
        elif text.startswith("sst_"):
            found = self._sessions.find(text, now) if self._sessions else None
        elif self._jwts:
            found = self._jwts.cached(text, now)
        if found is None and self._token is not None:
            given = text.encode("utf-8", "surrogateescape")
            return self._server if hmac.compare_digest(given, self._token) else None
        return found

    async def identify(self, text: str | None) -> Credential:
        """Return the credential of a request's text; raises NotAuthenticated.

        Raises StoreUnavailable or KeySetUnavailable if the credential cannot be verified now.
        """
        found = self.find(text)
        if found is None and self._jwts and text and len(text) <= _LONGEST and _may_be_jwt(text):
            found = await self._jwts.verify(text, time.time_ns() // 1_000_000)
        if found is None:
            raise NotAuthenticated
        return found

    def is_valid(self, credential: Credential, now: int) -> bool:
        """Return whether a credential that was found before is still valid at ``now`` (epoch ms).

        It is not once it has expired, or its API key is revoked; that of a session token is the key
        that minted it. Raises StoreUnavailable if that is not known.
        """
        if credential.expires is not None and credential.expires <= now:
            return False
        if self._keys is None or credential.kind is Kind.USER or credential.id == self._server.id:
            return True
        if credential.kind is Kind.SESSION and is_uuid(credential.id):  # a JWT minted it
            return True
        return not self._keys.is_revoked(credential.id, now)


def _may_be_jwt(text: str) -> bool:
    return text.count(".") == 2
