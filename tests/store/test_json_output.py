"""Commands with ``--json`` print one JSON document, with the exit code of the command without."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from session_service import commands
from tests.support.factories import ID

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _environment(
    valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Set the environment; restore pytest's own handlers after the test."""
    for name, value in {"REDIS_URL": valkey_url, "SESSION_DATA_DIR": tmp_path, "PORT": 0}.items():
        monkeypatch.setenv(name, str(value))
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def output(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    done = commands.run([*arguments, "--json"])
    printed, errors = capsys.readouterr()
    assert done == code, errors
    return json.loads(printed)


def test_keys_are_printed_as_json(capsys: Capture) -> None:
    """A key is an object in each command; only a new one has its text."""
    options = ("--scopes", "sessions:read", "--agents", ID)
    created = output(capsys, "keys", "create", "billing", *options)
    text = created.pop("key")
    assert text.startswith(f"ssk_{created['id']}_")
    assert (created["name"], created["scopes"]) == ("billing", ["sessions:read"])
    assert (created["agents"], created["expiresAt"]) == ([ID], None)
    listed = output(capsys, "keys", "list")
    assert {**created, "state": "valid"} in listed["keys"]
    rotated = output(capsys, "keys", "rotate", created["id"])
    assert rotated.pop("key") != text
    assert rotated == created
    revoked = output(capsys, "keys", "revoke", created["id"])
    assert revoked == {"id": created["id"], "state": "revoked"}
    (state,) = [
        each["state"]
        for each in output(capsys, "keys", "list")["keys"]
        if each["id"] == created["id"]
    ]
    assert state == "revoked"


def test_a_key_of_the_store_is_printed_as_json(capsys: Capture) -> None:
    """The facts of a key are members, its decoded value lines."""
    commands.run(["keys", "create", "billing", "--scopes", "sessions:read"])
    capsys.readouterr()
    shown = output(capsys, "show", "session-service:{00}:api-keys")
    assert (shown["type"], shown["isDamaged"]) == ("hash", False)
    assert shown["ttlMs"] > 0
    assert any("billing" in line for line in shown["lines"])


def test_other_results_are_printed_as_json(capsys: Capture) -> None:
    """A problem is a member."""
    assert output(capsys, "healthcheck", code=1) == {
        "ready": False,
        "problem": "PORT is 0: the port that the service chose is unknown",
    }
    assert output(capsys, "repair", "--check", code=2) == {
        "loadable": False,
        "lines": [],
        "problem": "REDIS_URL is set: only the embedded store can be repaired",
    }
