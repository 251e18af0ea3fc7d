"""JWTs of users: from the text of a token to a Credential (access, "Credentials").

Import this only if a setting of JWTs is set: it needs the extra ``jwt``.
"""

import logging
import uuid
from collections import OrderedDict
from typing import Any, Protocol

from session_service.access.jwks import KeySet
from session_service.access_settings import JwtSettings
from session_service.domain.budgets import (
    JWT_BYTES,
    JWT_LEEWAY_SECONDS,
    JWT_REMEMBERED_SECONDS,
    JWTS_REMEMBERED,
)
from session_service.domain.credentials import (
    USER_PERMISSIONS,
    Credential,
    Kind,
    Permission,
    permissions_of,
)
from session_service.domain.ids import is_uuid
from session_service.domain.times import LATEST_MS
from session_service.jwt_keys import (
    TokenRefusedError,
    VerificationKey,
    header_of,
    key_of_pem,
    key_of_secret,
)

_NAME_CHARACTERS = 64  # of a subject, in the audit log

log = logging.getLogger(__name__)


class KeySource(Protocol):
    """The keys that may have signed a token."""

    async def find(self, kid: str | None, algorithm: object) -> VerificationKey | None:
        """Return the key of a token's ``kid`` and ``alg``, or None; raises KeySetUnavailable."""


class JwtVerifier:
    """Verifies JWTs and remembers the valid ones, each for a minute at most.

    ``key_set`` is None if the settings have the key itself; else its ``refresh_forever`` has to
    run. Raises UnusableKeyError if that key cannot be used::

        verifier = JwtVerifier(settings.access.jwt)
        credential = verifier.cached(text, now) or await verifier.verify(text, now)
    """

    def __init__(self, settings: JwtSettings, key_set: KeySet | None = None) -> None:
        self._settings = settings
        self._verified: OrderedDict[str, tuple[int, int, Credential]] = OrderedDict()
        self._keys: KeySource
        if settings.key_set_url is not None:
            self._keys = key_set = key_set or KeySet(settings.key_set_url)
        elif settings.secret is not None:
            self._keys = _OneKey(key_of_secret(settings.secret.value))
        else:
            self._keys = _OneKey(key_of_pem(settings.public_key or ""))
        self.key_set = key_set

    def cached(self, text: str, now: int) -> Credential | None:
        """Return the credential of a token that was verified in the last minute, or None.

        ``now`` is in epoch milliseconds. If the clock was set back since, the answer is None.
        """
        found = self._verified.get(text)
        return found[2] if found is not None and found[0] <= now < found[1] else None

    async def verify(self, text: str, now: int) -> Credential | None:
        """Return the credential of a token, or None if it is not valid; raises KeySetUnavailable.

        ``now`` is in epoch milliseconds. The reason of a refusal is in the log, at level debug.
        """
        try:
            credential = await self._verify(text, now)
        except TokenRefusedError as error:
            log.debug("a JWT was refused", extra={"reason": str(error)})
            return None
        self._remember(text, now, credential)
        return credential

    async def _verify(self, text: str, now: int) -> Credential:
        if len(text) > JWT_BYTES or not text.isascii():
            raise TokenRefusedError("it is too long, or not ASCII")
        header = header_of(text)
        key = await self._keys.find(header.get("kid"), header.get("alg"))
        if key is None:
            raise TokenRefusedError("no key has its kid and alg")
        settings = self._settings
        claims = key.claims(text, settings.issuer, settings.audience)
        expires = _check_times(claims, now)
        user = user_of(settings.issuer, claims.get(settings.user_claim))
        permissions = _permissions(claims, settings.scope_claim)
        return Credential(
            kind=Kind.USER,
            id=user,
            name=_printable(claims["sub"]),
            user=None if Permission.SESSIONS_ADMIN in permissions else user,
            permissions=permissions,
            expires=expires,
        )

    def _remember(self, text: str, now: int, credential: Credential) -> None:
        until = min(credential.expires or 0, now + 1000 * JWT_REMEMBERED_SECONDS)
        if until <= now:
            return
        verified = self._verified
        verified[text] = (now, until, credential)
        verified.move_to_end(text)
        while len(verified) > JWTS_REMEMBERED or next(iter(verified.values()))[1] <= now:
            verified.popitem(last=False)


class _OneKey:
    """A key from the settings, for every token."""

    def __init__(self, key: VerificationKey) -> None:
        self._key = key

    async def find(self, kid: str | None, algorithm: object) -> VerificationKey | None:
        """Return the key, whatever the ``kid``, if it has the algorithm."""
        del kid
        return self._key if algorithm in self._key.algorithms else None


def user_of(issuer: str, value: Any) -> str:
    """Return the user id of a claim's value: a lower-case UUID; raises TokenRefusedError.

    A UUID is the id itself. Any other text, or a whole number, makes a UUIDv5 whose namespace is
    the UUIDv5 of the issuer (in the namespace URL) and whose name is the value. E.g. "auth0|42" of
    "https://id.example.org/" is the user 4c75a355-9122-5780-9311-1c468697042d.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise TokenRefusedError("the claim of the user is neither a text nor a whole number")
    if is_uuid(value):
        return value.lower()
    try:
        return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, issuer), value))
    except UnicodeEncodeError:
        raise TokenRefusedError("the claim of the user is not Unicode") from None


def _check_times(claims: dict[str, Any], now: int) -> int:
    """Return ``exp`` in epoch milliseconds; raises TokenRefusedError if it is not valid now.

    ``exp``, ``nbf`` and ``iat`` are numbers of seconds. The clock of the issuer may differ by the
    leeway, but nothing that lasts, such as a stream, does so beyond ``exp``.
    """
    leeway = 1000 * JWT_LEEWAY_SECONDS
    expires = _milliseconds(claims["exp"])
    if expires <= now - leeway:
        raise TokenRefusedError("it has expired")
    for name in ("nbf", "iat"):
        if name in claims and _milliseconds(claims[name]) > now + leeway:
            raise TokenRefusedError(f"its {name} is in the future")
    return expires


def _milliseconds(value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= LATEST_MS // 1000:  # NaN is not in the range, either
        raise TokenRefusedError("a time is no number of seconds")
    return int(value * 1000)


def _permissions(claims: dict[str, Any], name: str) -> frozenset[Permission]:
    """Return the permissions of the claim: a string, separated by spaces, or an array of strings.

    Without the claim they are those of a user. No user may speak as an agent.
    """
    if name not in claims:
        return USER_PERMISSIONS
    value = claims[name]
    scopes = value.split() if isinstance(value, str) else value
    if not isinstance(scopes, list) or not all(isinstance(each, str) for each in scopes):
        raise TokenRefusedError("the claim of the scopes is neither a string nor an array of them")
    return permissions_of(scopes) - {Permission.MESSAGES_AGENT}


def _printable(text: str) -> str:
    """Return a subject as a name in the log: short, and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:_NAME_CHARACTERS])
