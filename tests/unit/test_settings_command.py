"""``session-service settings``: each setting with its value and source, and no secret."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from session_service import commands
from session_service.environment import SECRETS
from tests.unit.test_settings import HIDDEN, HUSH, VALUES, WITH_JWT, public_key

DOCS = Path(__file__).parents[2] / "docs"
WITHOUT_VALUE = ("none", "unset", "half of the memory", "`127.0.0.1,::1`")  # or in two parts


class Shown:
    """The output of the command with an environment, as text and as JSON."""

    def __init__(self, capsys: pytest.CaptureFixture[str], environment: dict[str, str]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", environment)
            self.code = commands.run(["settings"])
            self.text, self.errors = capsys.readouterr()
            assert commands.run(["settings", "--json"]) == self.code
        self.json: dict[str, Any] = json.loads(capsys.readouterr().out)
        self.settings = {each["name"]: each for each in self.json["settings"]}

    def row(self, name: str) -> list[str]:
        """The cells of a setting."""
        (row,) = re.findall(rf"^{name}  .*$", self.text, re.MULTILINE)
        return re.split(r"\s{2,}", row)


def test_each_setting_has_its_documented_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Every setting of the docs is listed, and no other, with the default of the docs."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| ?([^|]*) \|",
        (DOCS / "settings.md").read_text() + (DOCS / "webhooks.md").read_text(),
        re.MULTILINE,
    )
    shown = Shown(capsys, {})
    assert shown.code == 0
    assert shown.settings.keys() == {name for name, _ in rows}
    documented = {
        name: default.strip("`")
        for name, default in rows
        if default and not default.startswith(WITHOUT_VALUE)
    }
    assert {name: shown.settings[name]["value"] for name in documented} == documented
    assert {each["source"] for each in shown.settings.values()} == {"default"}
    assert shown.row("PORT") == ["PORT", "3000", "default"]
    assert shown.row("JWT_ISSUER") == ["JWT_ISSUER", "not set", "default"]


def test_a_setting_has_its_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The source is the environment or the file of a secret; a store's URL has no login."""
    file = tmp_path / "url"
    file.write_text("rediss://app:hunter2@store.example/3?ssl_password=hunter2")
    shown = Shown(capsys, {"REDIS_URL_FILE": str(file), "PORT": "8080", "AUTH": " "})
    assert shown.row("REDIS_URL") == [
        "REDIS_URL",
        "rediss://store.example:6379/3",
        f"file {file}",
    ]
    assert shown.settings["PORT"] == {
        "name": "PORT", "value": "8080", "source": "environment", "file": None
    }  # fmt: skip
    assert shown.row("AUTH") == ["AUTH", "not set", "default"]


def test_problems_are_those_of_a_start(capsys: pytest.CaptureFixture[str]) -> None:
    """A bad value exits with 1 and has no value; unknown names are warned of."""
    shown = Shown(capsys, {"PORT": "x", "SESSION_DATADIR": "/data"})
    assert shown.code == 1
    assert shown.row("PORT") == ["PORT", "not allowed", "environment"]
    problem, warning = shown.errors.splitlines()
    assert problem.startswith("PORT='x' is not allowed: it must be a whole number")
    assert warning.startswith("SESSION_DATADIR is set, and there is no such setting")
    assert (shown.json["problems"], shown.json["warnings"]) == ([problem], [warning])


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_shown(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A secret is shown neither if it is valid nor if it is not, from the variable or a file."""
    file = tmp_path / "secret"
    valid = VALUES[name] or public_key().strip()
    pem_body = "".join(valid.splitlines()[1:-1])
    for value in (valid, f"redis://user:{HUSH}@host:x", f"{HUSH}://{HUSH}@{HUSH}?{HUSH}", "QUJD"):
        file.write_text(value)
        for variable, text in ((name, value), (f"{name}_FILE", str(file)), (f"{name}_FILE", value)):
            jwt = WITH_JWT if name.startswith("JWT") else {}
            shown = Shown(capsys, {variable: text, **jwt})
            output = f"{shown.text}{shown.errors}{shown.json}"
            assert not [hidden for hidden in HIDDEN if hidden in output]
            assert not pem_body or pem_body not in output
            if value == valid and text != valid:
                assert shown.settings[name]["value"], name


def test_urls_have_no_login_and_no_query(capsys: pytest.CaptureFixture[str]) -> None:
    """The URL of a key set, which is no secret setting, may have a token in its query."""
    url = f"https://id.example.org/keys?token={HUSH}"
    shown = Shown(capsys, {"JWT_JWKS_URL": url, **WITH_JWT})
    assert shown.row("JWT_JWKS_URL")[1] == "https://id.example.org/keys?***"
    assert HUSH not in f"{shown.text}{shown.errors}{shown.json}"
