"""The keys that verify JWTs: a secret, a public key in PEM form, or a member of a JSON Web Key Set.

The type of a key determines its algorithms, so a token cannot choose another kind of verification:

    a secret                    HS256; HS384 from 48 bytes, HS512 from 64 (RFC 7518, section 3.2)
    RSA, 2048 to 8192 bits      RS256, RS384, RS512, PS256, PS384, PS512
    EC on P-256, P-384, P-521   ES256, ES384 or ES512, by the curve
    Ed25519                     EdDSA

This module needs the extra ``jwt``; import it only if a setting of JWTs is set.
"""

from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from session_service.domain.budgets import JWT_SECRET_BYTES, RSA_BITS

_HMAC = {"HS256": 32, "HS384": 48, "HS512": 64}  # the bytes of each hash
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_EC = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_ED25519 = ("EdDSA",)
PUBLIC_ALGORITHMS = (*_RSA, *(name for names in _EC.values() for name in names), *_ED25519)

# An algorithm of each type of key by which PyJWT reads it. There is no oct, the secrets: whoever
# reads a key set could sign with them.
_READERS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}

# The time is compared by JwtVerifier, because PyJWT takes no time to compare with.
_OPTIONS: Any = {
    "require": ["exp", "sub", "iss", "aud"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}


class UnusableKeyError(Exception):
    """A key cannot verify JWTs; the text continues "the key", e.g. "is a private one"."""


class TokenRefusedError(Exception):
    """A token is not valid; the text is for the log and has no part of the token."""


class VerificationKey:
    """A key with the algorithms of its type. Its ``repr`` does not have the key."""

    def __init__(self, key: Any, algorithms: tuple[str, ...]) -> None:
        self._key = key
        self.algorithms = algorithms

    def __repr__(self) -> str:
        return f"VerificationKey({', '.join(self.algorithms)})"

    def claims(self, text: str, issuer: str, audience: str) -> dict[str, Any]:
        """Return the claims of a token whose signature, issuer and audience are right.

        ``exp``, ``sub``, ``iss`` and ``aud`` are there, ``sub`` is a string, and no time has been
        compared. Raises TokenRefusedError.
        """
        try:
            return jwt.decode(
                text,
                self._key,
                algorithms=self.algorithms,
                options=_OPTIONS,
                issuer=issuer,
                audience=audience,
            )
        except jwt.PyJWTError as error:
            raise TokenRefusedError(type(error).__name__) from None


def header_of(text: str) -> dict[str, Any]:
    """Return the header of a token, which anybody may have written. Raises TokenRefusedError.

    Keys that it contains or points to (``jwk``, ``jku``, ``x5c``, ``x5u``) are never used.
    """
    try:
        header = jwt.get_unverified_header(f"{text.partition('.')[0]}..")
    except jwt.PyJWTError as error:
        raise TokenRefusedError(type(error).__name__) from None
    if "crit" in header or "b64" in header:  # no extension is for JWTs (RFC 7797, section 7)
        raise TokenRefusedError("the header has an extension")
    return header


def key_of_secret(secret: str) -> VerificationKey:
    """Make the key of a shared secret; raises UnusableKeyError."""
    key = secret.encode("utf-8", "surrogateescape")  # the bytes of the variable
    if len(key) < JWT_SECRET_BYTES:
        raise UnusableKeyError(f"must have at least {JWT_SECRET_BYTES} bytes")
    try:  # refuses PEM, DER and JWK forms: a public key is no secret
        jwt.get_algorithm_by_name("HS256").prepare_key(key)
    except jwt.PyJWTError:
        raise UnusableKeyError("must be a secret, not a key of another type") from None
    return VerificationKey(key, tuple(name for name, size in _HMAC.items() if len(key) >= size))


def key_of_pem(text: str) -> VerificationKey:
    r"""Read a public key, ``-----BEGIN PUBLIC KEY-----…``; raises UnusableKeyError.

    Its lines may also be separated by the two characters ``\n``, as in the JSON and .env files that
    have no other form.
    """
    try:
        key: Any = load_pem_public_key(text.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError(
            "must be a public key in PEM form, which begins -----BEGIN PUBLIC KEY-----"
        ) from None
    if not (algorithms := _algorithms_of(key)):
        raise UnusableKeyError(
            f"must be of the type RSA with {RSA_BITS[0]} to {RSA_BITS[1]} bits,"
            " EC on P-256, P-384 or P-521, or Ed25519"
        )
    return VerificationKey(key, algorithms)


def key_of_jwk(jwk: Any) -> VerificationKey:
    """Read a member of a JSON Web Key Set (RFC 7517); raises UnusableKeyError.

    Its own type decides the algorithms, also beside keys of other types; ``alg`` limits them to
    one. Keys that are symmetric, private, or not for signatures cannot be used.
    """
    if not isinstance(jwk, dict):
        raise UnusableKeyError("is not an object")
    kty, kid, operations = jwk.get("kty"), jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kty, str) or kty not in _READERS:
        raise UnusableKeyError("has a kty other than RSA, EC and OKP")
    if not (kid is None or isinstance(kid, str)):
        raise UnusableKeyError("has a kid that is not a string")
    if "d" in jwk:
        raise UnusableKeyError("is a private one, which must not be public")
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list):
        raise UnusableKeyError("is not for signatures")
    if "verify" not in operations:
        raise UnusableKeyError("is not to verify with")
    try:
        key = jwt.PyJWK(jwk, _READERS[kty]).key
    except (jwt.PyJWTError, ValueError, UnsupportedAlgorithm):
        raise UnusableKeyError("is damaged, or on another curve") from None
    algorithms = _algorithms_of(key)
    if "alg" in jwk:
        algorithms = tuple(name for name in algorithms if name == jwk["alg"])
    if not algorithms:
        raise UnusableKeyError("has another length, curve or alg")
    return VerificationKey(key, algorithms)


def _algorithms_of(key: Any) -> tuple[str, ...]:
    """Return the algorithms of a public key, none if it cannot be used."""
    if isinstance(key, RSAPublicKey):
        return _RSA if RSA_BITS[0] <= key.key_size <= RSA_BITS[1] else ()
    if isinstance(key, EllipticCurvePublicKey):
        return _EC.get(key.curve.name, ())
    return _ED25519 if isinstance(key, Ed25519PublicKey) else ()
