"""The settings of JWTs (docs/settings.md)."""

import sys
from pathlib import Path
from typing import Any

import pytest

from session_service.access_settings import JwtSettings, Secret
from session_service.settings import Settings, SettingsError
from tests.support.jwts import AUDIENCE, ISSUER, SECRET, private_pem, public_pem

NAMES = {"JWT_ISSUER": ISSUER, "JWT_AUDIENCE": AUDIENCE}
URL = "https://id.example.org/.well-known/jwks.json"


def read(**environment: str) -> JwtSettings | None:
    settings = Settings.from_environment(environment)
    assert settings.access.is_on == bool(environment)
    return settings.access.jwt


def problems(**environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    return caught.value.problems


def test_each_of_three_keys_turns_access_control_on() -> None:
    """A secret, a public key or a URL, with issuer and audience, turns access control on."""
    assert read() is None
    rest: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE}
    assert read(JWT_SECRET=SECRET, **NAMES) == JwtSettings(secret=Secret(SECRET), **rest)
    assert read(JWT_JWKS_URL=URL, **NAMES) == JwtSettings(key_set_url=URL, **rest)
    claims = {"JWT_USER_CLAIM": "uid", "JWT_SCOPE_CLAIM": "scp"}
    pem = public_pem("p256").strip()
    assert read(JWT_PUBLIC_KEY=pem, **NAMES, **claims) == JwtSettings(
        public_key=pem, user_claim="uid", scope_claim="scp", **rest
    )


def test_keys_are_read_from_files(tmp_path: Path) -> None:
    """Both a secret and a public key can be in a file."""
    for name, value in (("JWT_SECRET", SECRET), ("JWT_PUBLIC_KEY", public_pem("ed25519"))):
        file = tmp_path / name
        file.write_text(value + "\n")
        found = read(**{f"{name}_FILE": str(file)}, **NAMES)
        assert found is not None
        assert value.strip() in (found.public_key, found.secret and found.secret.value)


def test_a_public_key_may_be_on_one_line() -> None:
    """The lines of a public key may be separated by a backslash and an n."""
    for kind in ("rsa", "p256", "p384", "p521", "ed25519"):
        assert read(JWT_PUBLIC_KEY=public_pem(kind).replace("\n", "\\n"), **NAMES)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/jwks", "http://[::1]/jwks", "http://localhost:1/", URL]
)
def test_a_key_set_comes_by_https_or_from_this_machine(url: str) -> None:
    """HTTPS, or HTTP on a loopback address, is allowed."""
    assert read(JWT_JWKS_URL=url, **NAMES)


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.org/jwks",
        "http://10.0.0.1/jwks",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "https://",
        "https://id.example.org:x/",
        "https://[::1/",
        "https://user:hush@id.example.org/jwks",
        "file:///etc/jwks.json",
        "id.example.org/jwks",
    ],
)
def test_another_url_of_a_key_set_is_refused(url: str) -> None:
    """A URL that others could answer is refused, and a password in it is not shown."""
    (problem,) = problems(JWT_JWKS_URL=url, **NAMES)
    assert problem.startswith("JWT_JWKS_URL='")
    assert "must be https://… or, on this machine, http://127.0.0.1:…" in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"JWT_SECRET": "hush" * 7}, "JWT_SECRET must have at least 32 bytes"),
        ({"JWT_SECRET": public_pem()}, "JWT_SECRET must be a secret, not a key of another type"),
        ({"JWT_PUBLIC_KEY": "hush"}, "JWT_PUBLIC_KEY must be a public key in PEM form"),
        ({"JWT_PUBLIC_KEY": private_pem()}, "JWT_PUBLIC_KEY must be a public key in PEM form"),
        ({"JWT_PUBLIC_KEY": public_pem("weak")}, "JWT_PUBLIC_KEY must be of the type RSA with"),
    ],
)
def test_a_key_that_cannot_be_used_is_told_without_its_value(
    key: dict[str, str], expected: str
) -> None:
    """The problem names the variable and the requirement, and shows nothing of the value."""
    (problem,) = problems(**key, **NAMES)
    assert problem.startswith(expected)
    assert "hush" not in problem
    assert not any(line in problem for line in next(iter(key.values())).splitlines()[1:-1])


def test_exactly_one_key_is_set() -> None:
    """None, or two of the three, is a problem that names them."""
    (problem,) = problems(JWT_SECRET=SECRET, JWT_JWKS_URL=URL, **NAMES)
    names = "JWT_SECRET, JWT_PUBLIC_KEY and JWT_JWKS_URL"
    assert problem == (
        f"exactly one of {names} must be set, because JWT_SECRET and JWT_JWKS_URL are"
    )
    assert problems(**NAMES) == [f"exactly one of {names} must be set, because JWT_ISSUER is"]


def test_all_problems_are_told_at_once() -> None:
    """Issuer and audience are required, and all problems are reported at once."""
    assert problems(JWT_SECRET="short", AUTH="off", PORT="x") == [  # noqa: S106 - an example
        "PORT='x' is not allowed: it must be a whole number, at least 0 and at most 65535",
        "AUTH='off' is not allowed: it must be on while JWT_SECRET is set",
        "JWT_ISSUER='' is not allowed: it must be the claim iss of tokens, because JWT_SECRET is"
        " set",
        "JWT_AUDIENCE='' is not allowed: it must be the claim aud of tokens, because JWT_SECRET"
        " is set",
        "JWT_SECRET must have at least 32 bytes",
    ]


@pytest.mark.parametrize("name", ["JWT_SECRET_FILE", *NAMES, "JWT_USER_CLAIM", "JWT_SCOPE_CLAIM"])
def test_access_control_cannot_be_off_beside_a_setting_of_jwts(name: str, tmp_path: Path) -> None:
    """``AUTH=off`` beside any setting of JWTs stops the start."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    found = problems(**{name: str(file)}, AUTH="off")
    used = name.removesuffix("_FILE")
    assert f"AUTH='off' is not allowed: it must be on while {used} is set" in found


@pytest.mark.parametrize("module", ["jwt", "cryptography"])
def test_a_missing_extra_is_told(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyJWT or cryptography a setting of JWTs stops the start; nothing else needs them."""
    monkeypatch.setitem(sys.modules, module, None)
    assert problems(JWT_SECRET=SECRET, **NAMES) == [
        "JWT_SECRET needs pip install 'session-service[jwt]'"
    ]
    assert read() is None


def test_the_secret_is_in_no_repr() -> None:
    """The ``repr`` of all settings does not show the secret."""
    settings = Settings.from_environment({"JWT_SECRET": SECRET, **NAMES})
    assert SECRET not in repr(settings)
    assert ISSUER in repr(settings)
