"""Session tokens: the credential of a page, for one session and for an hour at most.

Nothing is stored. A token has the session, its user, the scopes, its end, and the credential that
minted it, all in base64url, and then their MAC (HMAC-SHA256) in 43 characters of base64url::

    sst_P4pvCLYeTWei9HwedbkNg28cD1J6PkxVnQorf06KHJAfAAAAAZvE-qLDN2sybTl4NHE_…

It is revoked with the API key that minted it, and ends at the latest with the JWT that did (access,
"Credentials").
"""

import base64
import hmac
import struct
from typing import Protocol

from session_service.access_settings import Secret
from session_service.domain.credentials import (
    ENVIRONMENT_KEY,
    ENVIRONMENT_KEY_NAME,
    SESSION_TOKEN_PERMISSIONS,
    Credential,
    Kind,
    Permission,
)
from session_service.domain.sessions import Session
from session_service.store.records import pack_id, unpack_id

PREFIX = "sst_"

_MAC_LENGTH = 43  # characters
# The session, its user, the scopes, the kind of the minter, and the end; then the minter's id.
_PAYLOAD = struct.Struct(">16s16sBBQ")
_MINTERS = (Kind.KEY, Kind.USER)  # tokens contain the positions: append, never reorder
_SETS = [  # of scopes, by the sum of their bits
    frozenset(scope for n, scope in enumerate(SESSION_TOKEN_PERMISSIONS) if bits >> n & 1)
    for bits in range(1 << len(SESSION_TOKEN_PERMISSIONS))
]


class Minters(Protocol):
    """The API keys, as session tokens depend on them."""

    def name_of(self, key_id: str, now: int) -> str | None:
        """Return the name of a key, or None if it is revoked, expired at ``now`` or unknown.

        Raises StoreUnavailable if that cannot be told.
        """


class SessionTokens:
    """Mints and verifies session tokens.

    ``secrets`` are those of SESSION_TOKEN_SECRET: the first signs, and all of them verify.
    ``environment_key`` is ELIZA_SERVER_AUTH_TOKEN, which is not among ``keys``. The tokens that it
    mints are signed with it, too, so they end when it changes.
    """

    def __init__(
        self, secrets: tuple[Secret, ...], keys: Minters, environment_key: Secret | None = None
    ) -> None:
        self._keys = keys
        self._secrets = [_utf8(secret) for secret in secrets]
        self._environment_secrets = [
            hmac.digest(secret, _utf8(environment_key), "sha256")
            for secret in self._secrets
            if environment_key
        ]

    def mint(
        self,
        credential: Credential,
        session: Session,
        permissions: frozenset[Permission],
        expires: int,
    ) -> str:
        """Return a token for a session, minted by the credential of a key or a JWT.

        ``permissions`` are among SESSION_TOKEN_PERMISSIONS, and ``expires`` is as of ``end_of``.
        """
        payload = _PAYLOAD.pack(
            pack_id(session.id),
            pack_id(session.user_id),
            _SETS.index(permissions),
            _MINTERS.index(credential.kind),
            expires,
        )
        encoded = base64.urlsafe_b64encode(payload + credential.id.encode()).rstrip(b"=")
        signed = PREFIX.encode() + encoded + b"_"
        secret, *_ = self._secrets_of(credential.kind, credential.id)
        return (signed + _mac(secret, signed)).decode()

    def find(self, text: str, now: int) -> Credential | None:
        """Return the credential of a token, or None if it is not valid at ``now`` (epoch ms).

        Takes about 4 us, of which the MAC is one. Raises StoreUnavailable if it cannot be told
        whether the key that minted the token is revoked.
        """
        if not text.isascii():
            return None
        token = text.encode()
        signed, mac = token[:-_MAC_LENGTH], token[-_MAC_LENGTH:]
        try:
            payload = base64.urlsafe_b64decode(signed[len(PREFIX) : -1] + b"==")
            session, user, scopes, minter, expires = _PAYLOAD.unpack_from(payload)
            kind, minter_id = _MINTERS[minter], payload[_PAYLOAD.size :].decode()
            permissions = _SETS[scopes]
        except (ValueError, IndexError, struct.error):
            return None
        for secret in self._secrets_of(kind, minter_id):
            if hmac.compare_digest(_mac(secret, signed), mac):
                break
        else:
            return None
        name = None if expires <= now else self._name_of(kind, minter_id, now)
        if name is None:
            return None
        return Credential(
            kind=Kind.SESSION,
            id=minter_id,
            name=name,
            user=unpack_id(user),
            session=unpack_id(session),
            permissions=permissions,
            expires=expires,
        )

    def _secrets_of(self, kind: Kind, minter_id: str) -> list[bytes]:
        is_environment = kind is Kind.KEY and minter_id == ENVIRONMENT_KEY
        return self._environment_secrets if is_environment else self._secrets

    def _name_of(self, kind: Kind, minter_id: str, now: int) -> str | None:
        """Return the name of the minter for the audit log, or None if it is revoked."""
        if kind is not Kind.KEY:  # a JWT, which cannot be revoked
            return minter_id
        if minter_id == ENVIRONMENT_KEY:
            return ENVIRONMENT_KEY_NAME
        return self._keys.name_of(minter_id, now)


def end_of(credential: Credential, session: Session, duration_ms: int) -> int:
    """Return when a token minted now ends, in epoch milliseconds.

    It outlives neither the session's maximum duration nor the credential that mints it.
    """
    last = session.created_at + session.timeout.max_duration_ms
    end = min(session.observed_at + duration_ms, last)
    return end if credential.expires is None else min(end, credential.expires)


def _utf8(secret: Secret) -> bytes:
    return secret.value.encode("utf-8", "surrogateescape")


def _mac(secret: bytes, signed: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256"))[:_MAC_LENGTH]
