"""The settings of access control: whether it is on, and the secrets that verify credentials."""

import importlib
import importlib.util
import ipaddress
from urllib.parse import urlsplit

import msgspec

from session_service.environment import Reader

_JWT_KEYS = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")
_JWT_NAMES = (*_JWT_KEYS, "JWT_ISSUER", "JWT_AUDIENCE", "JWT_USER_CLAIM", "JWT_SCOPE_CLAIM")
_SECRET_BYTES = 32  # as many as the hash of the signature has
_MAX_SECRETS = 2
TOKEN_CHARACTERS = 32  # from which ELIZA_SERVER_AUTH_TOKEN is not warned of


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How requests are authenticated. By default access control is off.

    It is on with ``AUTH=on``, and if a setting is there that only access control needs.
    ``is_silenced`` is ``AUTH=off``, with which the start does not warn that it is off.
    """

    is_on: bool = False
    is_silenced: bool = False
    needs_keys: bool = False  # whether it is on, and API keys are the only way to authenticate
    token: "Secret | None" = None  # ELIZA_SERVER_AUTH_TOKEN, a key with all scopes
    jwt: "JwtSettings | None" = None  # None: no JWT is valid
    session_token_secrets: tuple["Secret", ...] = ()  # the first signs; none: no session tokens

    @property
    def has_weak_token(self) -> bool:
        """Whether ELIZA_SERVER_AUTH_TOKEN is so short that it may be guessed."""
        return self.token is not None and len(self.token.value) < TOKEN_CHARACTERS


class JwtSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How JWTs are verified: with a secret, a public key, or the key set at a URL."""

    secret: "Secret | None" = None
    public_key: str | None = None  # PEM
    key_set_url: str | None = None
    issuer: str
    audience: str
    user_claim: str = "sub"
    scope_claim: str = "scope"


class Secret(msgspec.Struct, frozen=True):
    """A secret value, which is not in its ``repr``."""

    value: str

    def __repr__(self) -> str:
        return "Secret(***)"


def read_access(reader: Reader) -> AccessSettings:
    """Read the settings of access control; problems go to the reader."""
    auth = reader.choice("AUTH", "", ("on", "off"))
    token = reader.secret("ELIZA_SERVER_AUTH_TOKEN")
    implied = [name for name in ("ELIZA_SERVER_AUTH_TOKEN", *_JWT_NAMES) if reader.is_set(name)]
    reader.require("AUTH", not (auth == "off" and implied), f"on while {', '.join(implied)} is set")
    return AccessSettings(
        is_on=auth == "on" or bool(implied),
        is_silenced=auth == "off",
        needs_keys=auth == "on" and not implied,
        token=Secret(token) if token else None,
        jwt=_read_jwt(reader),
        session_token_secrets=_read_session_token_secrets(reader),
    )


def _read_jwt(reader: Reader) -> JwtSettings | None:
    """Read the settings of JWTs; None if none is set, or if there are problems."""
    used = [name for name in _JWT_NAMES if reader.is_set(name)]
    problems = len(reader.problems)
    secret, public_key = reader.secret("JWT_SECRET"), reader.secret("JWT_PUBLIC_KEY")
    url = reader.text(
        "JWT_JWKS_URL", "", _is_key_set_url, "https://… or, on this machine, http://127.0.0.1:…"
    )
    settings = JwtSettings(
        secret=Secret(secret) if secret else None,
        public_key=public_key or None,
        key_set_url=url or None,
        issuer=reader.text("JWT_ISSUER", ""),
        audience=reader.text("JWT_AUDIENCE", ""),
        user_claim=reader.text("JWT_USER_CLAIM", "sub"),
        scope_claim=reader.text("JWT_SCOPE_CLAIM", "scope"),
    )
    if not used:
        return None
    keys = [name for name in _JWT_KEYS if name in used]
    if len(keys) != 1:
        found = f"{' and '.join(keys)} are" if keys else f"{used[0]} is"
        names = f"{', '.join(_JWT_KEYS[:-1])} and {_JWT_KEYS[-1]}"
        reader.problems.append(f"exactly one of {names} must be set, because {found}")
    for name, value in {"JWT_ISSUER": settings.issuer, "JWT_AUDIENCE": settings.audience}.items():
        claim = "iss" if name == "JWT_ISSUER" else "aud"
        reader.require(name, bool(value), f"the claim {claim} of tokens, because {used[0]} is set")
    if all(importlib.util.find_spec(name) for name in ("jwt", "cryptography")):
        _check_keys(reader, settings)
    else:
        reader.problems.append(f"{used[0]} needs pip install 'session-service[jwt]'")
    return settings if len(reader.problems) == problems else None


def _check_keys(reader: Reader, settings: JwtSettings) -> None:
    """Add a problem for a key that cannot be used, without its value."""
    readable = {
        "JWT_SECRET": ("key_of_secret", settings.secret and settings.secret.value),
        "JWT_PUBLIC_KEY": ("key_of_pem", settings.public_key),
    }
    for name, (function, value) in readable.items():
        if value:
            keys = importlib.import_module("session_service.jwt_keys")
            try:
                getattr(keys, function)(value)
            except keys.UnusableKeyError as error:
                reader.problems.append(f"{name} {error}")


def _is_key_set_url(text: str) -> bool:
    """Return whether a text is the URL of a key set: HTTPS, or HTTP to this machine."""
    try:
        url = urlsplit(text)
        is_valid = bool(url.hostname) and url.port != 0  # raises ValueError, too
    except ValueError:
        return False
    if not is_valid or "@" in url.netloc or url.fragment:
        return False
    return url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.hostname or ""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_session_token_secrets(reader: Reader) -> tuple[Secret, ...]:
    """Read one secret, or the two of a rotation: the new one, a comma, and the old one."""
    name = "SESSION_TOKEN_SECRET"
    text = reader.secret(name)
    secrets = [secret.strip() for secret in text.split(",") if text]
    are_long = all(
        len(secret.encode("utf-8", "surrogateescape")) >= _SECRET_BYTES for secret in secrets
    )
    if not are_long or len(secrets) > _MAX_SECRETS:
        reader.problems.append(
            f"{name} is not allowed: it must be a secret of at least {_SECRET_BYTES} bytes"
            " without a comma, or two of them: the one that signs, a comma, and the one before it"
        )
        return ()
    return tuple(map(Secret, secrets))
