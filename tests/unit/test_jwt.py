"""JWTs of users: which tokens are valid, and the credential of one (access, "Credentials")."""

import base64
import hmac
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.access.jwt import JwtVerifier, user_of
from session_service.access_settings import JwtSettings, Secret
from session_service.domain.credentials import ALL_PERMISSIONS, USER_PERMISSIONS, Kind
from session_service.jwt_keys import TokenRefusedError
from tests.support.jwts import (
    AUDIENCE,
    ISSUER,
    SECRET,
    assemble,
    claims,
    public_pem,
    sign,
    token,
)

HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
USER = "4c75a355-9122-5780-9311-1c468697042d"  # auth0|42 of ISSUER


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def verifier(**settings: Any) -> JwtVerifier:
    """A verifier of tokens that are signed with SECRET, unless another key is given."""
    if "public_key" not in settings:
        settings.setdefault("secret", Secret(SECRET))
    return JwtVerifier(JwtSettings(issuer=ISSUER, audience=AUDIENCE, **settings))


def with_key(kind: str) -> JwtVerifier:
    return verifier(public_key=public_pem(kind))


async def is_valid(text: str, verified_by: JwtVerifier | None = None) -> bool:
    """Whether a token is valid; a refused one is not remembered."""
    by = verified_by or verifier()
    found = await by.verify(text, now_ms())
    assert (by.cached(text, now_ms()) is not None) == (found is not None)
    return found is not None


async def test_a_token_becomes_a_credential() -> None:
    """A valid token is a user, with the permissions of users, until its exp."""
    expires = int(time.time()) + 600
    found = await verifier().verify(token(exp=expires), now_ms())
    assert found is not None
    assert (found.kind, found.id, found.user) == (Kind.USER, USER, USER)
    assert (found.name, found.expires) == ("auth0|42", 1000 * expires)
    assert (found.permissions, found.agents, found.session) == (USER_PERMISSIONS, None, None)


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("rsa", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("p256", ("ES256",)),
        ("p384", ("ES384",)),
        ("p521", ("ES512",)),
        ("ed25519", ("EdDSA",)),
    ],
)
async def test_a_public_key_verifies_the_algorithms_of_its_type(
    kind: str, algorithms: tuple[str, ...]
) -> None:
    """A public key verifies its algorithms, and no token of another family."""
    by = with_key(kind)
    for algorithm in algorithms:
        assert await is_valid(token(kind, algorithm), by)
    others = {"rsa": "RS256", "p256": "ES256", "p384": "ES384", "ed25519": "EdDSA"}
    for other, algorithm in others.items():
        if other != kind:
            assert not await is_valid(token(other, algorithm), by)
    assert not await is_valid(token(), by)


@pytest.mark.parametrize(
    ("length", "expected"), [(32, {"HS256"}), (48, {"HS256", "HS384"}), (64, {*HASHES})]
)
async def test_the_length_of_a_secret_decides_its_algorithms(
    length: int, expected: set[str]
) -> None:
    """HS384 needs a secret of 48 bytes, and HS512 one of 64 (RFC 7518, section 3.2)."""
    secret = SECRET[:length]
    by = verifier(secret=Secret(secret))
    for algorithm, digest in HASHES.items():
        text = sign(claims(), secret, {"alg": algorithm}, digest)
        assert await is_valid(text, by) == (algorithm in expected)


@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
async def test_a_public_key_is_no_secret(kind: str) -> None:
    """HS256 with the public key as the secret is refused, in each form of the text."""
    pem = public_pem(kind)
    for secret in (pem, pem.strip(), pem.replace("\n", "\\n")):
        for algorithm in ("HS256", "HS384", "hs256"):
            header = {"alg": algorithm, "typ": "JWT", "kid": "k1"}
            assert not await is_valid(sign(claims(), secret, header), with_key(kind))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", None, [], {}, 0, ["none"]]
)
async def test_a_token_without_a_signature_is_refused(algorithm: Any) -> None:
    """``alg: none``, in any spelling, with and without a signature, is refused."""
    for by in (verifier(), with_key("rsa")):
        for header in ({"alg": algorithm, "typ": "JWT"}, {"typ": "JWT"}):
            assert not await is_valid(assemble(header, claims()), by)
            assert not await is_valid(assemble(header, claims(), b"x" * 32), by)


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://id.example.org"},
        {"iss": [ISSUER]},
        {"aud": "https://other.example.org"},
        {"aud": ["https://other.example.org"]},
        {"aud": []},
        {"aud": [AUDIENCE, 1]},
        {"aud": {AUDIENCE: 1}},
        {"sub": 42},
        {"sub": ""},
        {"sub": "\ud800"},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": 10**400},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": [9999999999]},
        {"nbf": "0"},
        {"iat": None},
        {"iat": True},
        {"scope": 1},
        {"scope": None},
        {"scope": [["sessions:admin"]]},
        {"scope": {"sessions:admin": True}},
        *({name: ...} for name in ("exp", "sub", "iss", "aud")),
    ],
)
async def test_a_token_with_wrong_claims_is_refused(changed: dict[str, Any]) -> None:
    """A claim that is missing, of another type or of somebody else makes a token invalid."""
    assert await is_valid(sign(claims()))
    assert not await is_valid(sign(claims(**changed)))


@pytest.mark.parametrize("payload", [[], "text", 1, None, [claims()]])
async def test_claims_are_an_object(payload: Any) -> None:
    """A payload that is no object is refused, also if it is signed."""
    assert await is_valid(sign(claims()))
    assert not await is_valid(sign(payload))


async def test_times_have_a_leeway_of_30_seconds() -> None:
    """The issuer's clock may differ by 30 s from ours."""
    by, now = verifier(), now_ms()
    seconds = now // 1000
    for name, ahead in (("exp", -29), ("nbf", 29), ("iat", 29)):
        assert await by.verify(sign(claims(**{name: seconds + ahead})), now), name
    for name, ahead in (("exp", -30), ("nbf", 32), ("iat", 32)):
        assert await by.verify(sign(claims(**{name: seconds + ahead})), now) is None, name


async def test_a_time_may_have_a_fraction() -> None:
    """``exp`` is a number of seconds, which may have a fraction."""
    found = await verifier().verify(token(exp=4102444800.5), now_ms())
    assert found is not None
    assert found.expires == 4102444800500


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (..., USER_PERMISSIONS),
        ("", frozenset()),
        ("openid profile", frozenset()),
        ("openid sessions:read  events:read", {"sessions:read", "events:read"}),
        (["sessions:read", "openid"], {"sessions:read"}),
        ([], frozenset()),
        (" ".join(ALL_PERMISSIONS), ALL_PERMISSIONS - {"messages:agent"}),
        (["messages:agent"], frozenset()),
    ],
)
async def test_a_claim_grants_scopes(scope: Any, expected: frozenset[str]) -> None:
    """Scopes are a string or an array; unknown ones are ignored, and no user is an agent."""
    for name in ("scope", "https://example.org/scopes"):
        found = await verifier(scope_claim=name).verify(token(**{name: scope}), now_ms())
        assert found is not None
        assert found.permissions == expected
        assert found.user == (None if "sessions:admin" in expected else USER)
        assert found.id == USER


async def test_another_claim_names_the_user() -> None:
    """The setting names the claim of the user; a whole number is the text of it."""
    by = verifier(user_claim="uid")
    names = {}
    values: tuple[str | int, ...] = (7, "7", "eight")
    for value in values:
        found = await by.verify(token(uid=value), now_ms())
        assert found is not None
        names[value] = found.user
    assert names[7] == names["7"] == user_of(ISSUER, "7") != names["eight"]
    for wrong in (..., None, True, 7.0, "", ["7"], {"id": 7}):
        assert not await is_valid(token(uid=wrong), by)
    assert not await is_valid(token(uid="7", sub=...), by)


@given(st.uuids())
def test_a_uuid_is_the_user_id(user: uuid.UUID) -> None:
    """A UUID, in either case, is the user id in lower case."""
    assert user_of(ISSUER, str(user)) == user_of(ISSUER, str(user).upper()) == str(user)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_other_value_has_one_user_id(value: str, other: str) -> None:
    """Equal values of an issuer are one user; other values, and other issuers, are other users."""
    try:
        first = user_of(ISSUER, value)
        second = user_of(ISSUER, other)
    except TokenRefusedError:
        assert any("\ud800" <= c <= "\udfff" for c in value + other)
        return
    assert str(uuid.UUID(first)) == first
    assert (first == second) == (value == other)
    assert first != user_of("https://id.example.org/a", value)


def test_the_documented_example_holds() -> None:
    """docs/settings.md has the user id of an example."""
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, ISSUER)
    assert user_of(ISSUER, "auth0|42") == USER == str(uuid.uuid5(namespace, "auth0|42"))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": "b64"},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"kid": 7},
        {"kid": None},
    ],
)
async def test_extensions_of_the_header_are_refused(header: dict[str, Any]) -> None:
    """A header with an extension (``crit``, ``b64``) or a wrong type makes a token invalid."""
    assert not await is_valid(sign(claims(), header=header))


async def test_keys_in_the_header_are_ignored() -> None:
    """``jwk``, ``jku``, ``x5u`` and ``x5c`` change nothing: neither the key nor what is valid."""
    own = {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 32).decode()}
    pointers = {"jwk": own, "jku": "http://127.0.0.1:1/", "x5u": "file:///dev/zero", "x5c": ["x"]}
    for kid in ("../../../../dev/null", "/dev/null", "' OR 1=1 --", "k" * 1000, "\x00"):
        headers = {**pointers, "kid": kid}
        assert await is_valid(token(headers=headers))
        assert not await is_valid(token(b"x" * 32, headers=headers))
        assert not await is_valid(token(b"\x00" * 32, headers=headers))


async def test_a_huge_token_is_refused() -> None:
    """A token of more than 8 KiB is refused, and one below it is not."""
    assert await is_valid(token(padding="x" * 5000))
    assert not await is_valid(token(padding="x" * 7000))


@given(st.text(max_size=60) | st.from_regex(r"[\w=-]{0,20}\.[\w=-]{0,20}\.[\w=-]{0,20}"))
async def test_garbage_is_refused(text: str) -> None:
    """No text that is not a token raises or is valid, nor bytes of a header that are not UTF-8."""
    for each in (text, f"{text}\udcff", f"{VALID[:-1]}\udcff"):
        assert await verifier().verify(each, now_ms()) is None


VALID = token(exp=4102444800, iat=0)


@given(st.integers(0, len(VALID) - 1), st.characters(max_codepoint=0x2FF))
async def test_a_changed_character_makes_a_token_invalid(at: int, character: str) -> None:
    """Every character of a token counts."""
    changed = VALID[:at] + character + VALID[at + 1 :]
    found = await verifier().verify(changed, now_ms())
    assert (found is not None) == (changed == VALID)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    ),
    st.sampled_from(["exp", "nbf", "iat", "iss", "sub", "aud", "jti", "scope"]),
)
async def test_claims_of_any_type_raise_nothing(value: Any, name: str) -> None:
    """A signed claim of any JSON type is valid or refused, and raises nothing."""
    await verifier().verify(sign(claims(**{name: value})), now_ms())


async def test_deep_json_is_refused() -> None:
    """JSON that nests too deeply for the parser is refused, signed or not."""
    head = token().partition(".")[0]
    for depth in (1100, 3000):
        deep = base64.urlsafe_b64encode(b"[" * depth).rstrip(b"=").decode()
        assert not await is_valid(f"{deep}.{deep}.")
        mac = hmac.digest(SECRET.encode(), f"{head}.{deep}".encode(), "sha256")
        signature = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        assert not await is_valid(f"{head}.{deep}.{signature}")


async def test_a_verified_token_is_remembered_for_a_minute() -> None:
    """The verification is remembered for a minute or until exp, whichever is first."""
    by, now = verifier(), now_ms()
    text, short = token(), token(exp=now // 1000 + 10)
    assert by.cached(text, now) is None
    found = await by.verify(text, now)
    assert by.cached(text, now) is by.cached(text, now + 59_999) is found
    assert by.cached(text, now + 60_000) is None
    assert by.cached(text, now - 1) is None  # the clock was set back
    await by.verify(short, now)
    expires = (now // 1000 + 10) * 1000
    assert by.cached(short, expires - 1)
    assert by.cached(short, expires) is None
    late = token(exp=now // 1000 - 10)  # within the leeway
    assert await by.verify(late, now)
    assert by.cached(late, now) is None


async def test_the_oldest_verified_token_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than the maximum, the token that was verified first is forgotten."""
    monkeypatch.setattr("session_service.access.jwt.JWTS_REMEMBERED", 3)
    by, now = verifier(), now_ms()
    texts = [token(jti=str(n)) for n in range(4)]
    for text in (*texts[:3], texts[0], texts[3]):
        assert await by.verify(text, now)
    assert [by.cached(text, now) is not None for text in texts] == [True, False, True, True]


async def test_secrets_are_in_no_repr() -> None:
    """No ``repr`` of a setting or a key has a secret."""
    settings = JwtSettings(secret=Secret(SECRET), issuer=ISSUER, audience=AUDIENCE)
    by = JwtVerifier(settings)
    assert SECRET not in f"{settings!r} {by!r} {vars(by)!r} {vars(vars(by)['_keys'])!r}"


async def test_a_refusal_tells_the_reason_to_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the reason of a refusal, at level debug, and no part of the token."""
    caplog.set_level("DEBUG", "session_service")
    text = token(aud="https://other.example.org", sub="canary")
    assert not await is_valid(text)
    (line,) = caplog.records
    assert (line.levelname, vars(line)["reason"]) == ("DEBUG", "InvalidAudienceError")
    assert not any(part in str(vars(line)) for part in (*text.split("."), "canary"))


async def test_the_name_of_a_credential_is_printable() -> None:
    """A subject with control characters cannot write lines of its own into the log."""
    found = await verifier().verify(token(sub="a\nb\x1b[2J\u202e" + 100 * "x"), now_ms())
    assert found is not None
    assert found.name == "a?b?[2J?" + 56 * "x"
