"""Session tokens: what they carry, and which ones are refused."""

import base64

import pytest
from msgspec.structs import replace

from session_service.access.session_tokens import SessionTokens, end_of
from session_service.access_settings import Secret
from session_service.domain.credentials import (
    ALL_PERMISSIONS,
    ENVIRONMENT_KEY,
    SESSION_TOKEN_PERMISSIONS,
    USER_PERMISSIONS,
    Credential,
    Kind,
    Permission,
)
from session_service.domain.errors import StoreUnavailable
from session_service.domain.sessions import Session
from tests.support.access import ANN, key, user
from tests.support.factories import HOUR_MS, ID, LASTING, new_session

NOW = 1_768_473_045_123
SECRET = Secret("the first secret, of 32 bytes or more")
OTHER = Secret("the other secret, of 32 bytes or more")
MINUTE_MS = 60_000
SOME = frozenset((Permission.MESSAGES_READ, Permission.EVENTS_READ))
BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class Keys:
    """API keys: all are valid but those that are revoked."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.are_known = True

    def name_of(self, key_id: str, now: int) -> str | None:
        assert now >= NOW
        if not self.are_known:
            raise StoreUnavailable
        return None if key_id in self.revoked else f"the name of {key_id}"


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def session() -> Session:
    return new_session(user_id=ANN).created(ID, NOW)


@pytest.fixture
def tokens(keys: Keys) -> SessionTokens:
    return SessionTokens((SECRET,), keys)


@pytest.fixture
def token(tokens: SessionTokens, session: Session) -> str:
    return tokens.mint(key("7k2m9x4q"), session, SOME, NOW + MINUTE_MS)


def test_a_token_is_the_credential_of_one_session(tokens: SessionTokens, token: str) -> None:
    """It is limited to its session, user and scopes, and names the key that minted it."""
    found = tokens.find(token, NOW)
    assert found is not None
    assert (found.kind, found.id) == (Kind.SESSION, "7k2m9x4q")
    assert found.name == "the name of 7k2m9x4q"
    assert (found.session, found.user, found.agents) == (ID, ANN, None)
    assert (found.permissions, found.expires) == (SOME, NOW + MINUTE_MS)


def test_every_set_of_scopes_survives(tokens: SessionTokens, session: Session) -> None:
    """A token has exactly the scopes that it was minted with."""
    for bits in range(1 << len(SESSION_TOKEN_PERMISSIONS)):
        scopes = frozenset(s for n, s in enumerate(SESSION_TOKEN_PERMISSIONS) if bits & 1 << n)
        found = tokens.find(tokens.mint(key("a"), session, scopes, NOW + 1), NOW)
        assert found is not None
        assert found.permissions == scopes


def test_no_token_has_another_scope(tokens: SessionTokens, session: Session) -> None:
    """Scopes that no token may have cannot be minted."""
    for permission in ALL_PERMISSIONS - USER_PERMISSIONS:
        with pytest.raises(ValueError, match="is not in list"):
            tokens.mint(key("a"), session, frozenset((permission,)), NOW + 1)


def test_a_changed_character_makes_it_invalid(tokens: SessionTokens, token: str) -> None:
    """A token with any character replaced, removed or added is none."""
    for n, character in enumerate(token):
        others = {BASE64URL[BASE64URL.find(character) ^ 1], "é", "\udc80", " "} - {character}
        for other in others:
            assert tokens.find(token[:n] + other + token[n + 1 :], NOW) is None
        assert tokens.find(token[:n] + token[n + 1 :], NOW) is None
        assert tokens.find(token[:n], NOW) is None
    assert tokens.find(token + "A", NOW) is None
    assert tokens.find(token, NOW) is not None


@pytest.mark.parametrize("position", [0, 16, 32, 33, 34, 42], ids=[
    "session", "user", "scopes", "kind", "expires", "minter",
])  # fmt: skip
def test_an_altered_field_makes_it_invalid(
    tokens: SessionTokens, token: str, position: int
) -> None:
    """With another session, user, scope, end or minter the signature is wrong."""
    encoded, mac = token.removeprefix("sst_")[:-44], token[-44:]
    payload = bytearray(base64.urlsafe_b64decode(encoded + "=="))
    payload[position] ^= 1
    forged = base64.urlsafe_b64encode(bytes(payload)).decode().rstrip("=")
    assert tokens.find(f"sst_{forged}{mac}", NOW) is None


def test_a_token_ends(tokens: SessionTokens, token: str) -> None:
    """It is valid until the millisecond before its end."""
    assert tokens.find(token, NOW + MINUTE_MS - 1) is not None
    assert tokens.find(token, NOW + MINUTE_MS) is None


def test_a_token_of_another_secret_is_invalid(keys: Keys, token: str) -> None:
    """Another deployment's token is none."""
    assert SessionTokens((OTHER,), keys).find(token, NOW) is None


def test_during_a_rotation_both_secrets_verify(keys: Keys, token: str, session: Session) -> None:
    """With two secrets the first signs, and tokens of the second are valid until it is removed."""
    rotating = SessionTokens((OTHER, SECRET), keys)
    assert rotating.find(token, NOW) is not None
    new = rotating.mint(key("a"), session, SOME, NOW + 1)
    assert SessionTokens((OTHER,), keys).find(new, NOW) is not None
    assert SessionTokens((SECRET,), keys).find(new, NOW) is None


def test_a_token_is_revoked_with_its_key(tokens: SessionTokens, token: str, keys: Keys) -> None:
    """The token of a revoked key is invalid; while it is unknown, the service is unavailable."""
    keys.revoked.add("another")
    assert tokens.find(token, NOW) is not None
    keys.revoked.add("7k2m9x4q")
    assert tokens.find(token, NOW) is None
    keys.are_known = False
    with pytest.raises(StoreUnavailable):
        tokens.find(token, NOW)
    assert tokens.find(token[:-1], NOW) is None  # without asking: anybody can send garbage


def test_a_token_of_a_user_does_not_depend_on_keys(
    tokens: SessionTokens, session: Session, keys: Keys
) -> None:
    """A token that a JWT minted is valid whatever the state of the keys."""
    token = tokens.mint(user(ANN), session, SOME, NOW + 1)
    keys.are_known = False
    found = tokens.find(token, NOW)
    assert found is not None
    assert found.id == ANN


def test_a_token_of_the_environments_key_ends_when_that_changes(
    keys: Keys, session: Session
) -> None:
    """It is valid while ELIZA_SERVER_AUTH_TOKEN is the same, and is none with another or none."""
    minter = Credential(
        kind=Kind.KEY, id=ENVIRONMENT_KEY, name="environment", permissions=ALL_PERMISSIONS
    )
    keys.are_known = False
    made = SessionTokens((SECRET,), keys, Secret("a"))
    token = made.mint(minter, session, SOME, NOW + 1)
    assert made.find(token, NOW) is not None
    assert SessionTokens((SECRET,), keys, Secret("b")).find(token, NOW) is None
    assert SessionTokens((SECRET,), keys).find(token, NOW) is None


def test_a_token_outlives_neither_its_session_nor_its_minter(session: Session) -> None:
    """It ends after its duration, with the session's maximum duration, or with its minter."""
    server = key("a")
    assert end_of(server, session, MINUTE_MS) == NOW + MINUTE_MS
    assert end_of(server, session, 3 * HOUR_MS) == NOW + LASTING.max_duration_ms
    late = replace(session, observed_at=NOW + LASTING.max_duration_ms - 5)
    assert end_of(server, late, MINUTE_MS) == NOW + LASTING.max_duration_ms
    brief = replace(server, expires=NOW + 7)
    assert end_of(brief, session, MINUTE_MS) == NOW + 7
