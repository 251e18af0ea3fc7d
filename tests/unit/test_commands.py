"""The command line: help, usage and exit codes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from session_service import __version__, cli, commands


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is printed alone on its line."""
    assert commands.run(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """Help lists each command with a sentence."""
    assert commands.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "serve",
        "Serve the Sessions API.",
        "healthcheck",
        "repair",
        "show",
        "keys",
        "settings",
    ):
        assert text in shown


def test_the_option_of_workers_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Help hides the option that only the service itself uses."""
    assert commands.run(["serve", "--help"]) == 0
    assert "listen" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["serve", "--nonsense"],
        ["serve", "nonsense"],
        ["show"],
        ["show", "key", "--limit", "0"],
        ["keys"],
        ["keys", "create", "billing"],
        ["keys", "create", "billing", "--scopes", "sessions:read", "--expires-in-days", "0"],
        ["keys", "rotate", "7k2m9x4q", "--overlap-hours", "-1"],
        ["keys", "revoke"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage exits with 2 and a message on standard error."""
    assert commands.run(arguments) == 2
    captured = capsys.readouterr()
    assert "Usage: session-service" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("command", ["serve", "healthcheck", "repair", "show key", "keys list"])
def test_bad_settings_exit_with_2(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad settings exit with 2 and one line for each problem."""
    monkeypatch.setenv("PORT", "x")
    assert cli.main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("PORT='x' is not allowed: ")


@pytest.mark.parametrize(
    ("arguments", "name", "options"),
    [
        (["serve"], "serve", {"listen_fds": None}),
        (["serve", "--listen-fds", "5,6/7"], "serve", {"listen_fds": ([5, 6], [7])}),
        (["repair", "--check"], "repair", {"check_only": True, "as_json": False}),
        (["repair"], "repair", {"check_only": False, "as_json": False}),
        (["repair", "--json"], "repair", {"check_only": False, "as_json": True}),
        (["backup", "b"], "backup", {"directory": "b", "as_json": False}),
        (["healthcheck"], "healthcheck", {"as_json": False}),
        (["show", "key"], "show", {"key": "key", "limit": 20, "as_json": False}),
        (["show", "key", "--limit", "5"], "show", {"key": "key", "limit": 5, "as_json": False}),
        (
            ["keys", "create", "billing", "--scopes", "sessions:read"],
            "keys",
            {
                "action": "create",
                "key_name": "billing",
                "scopes": "sessions:read",
                "agents": "",
                "days": None,
                "as_json": False,
            },
        ),
        (["keys", "list"], "keys", {"action": "list", "as_json": False}),
        (
            ["keys", "rotate", "7k2m9x4q"],
            "keys",
            {"action": "rotate", "key_id": "7k2m9x4q", "overlap_hours": 24, "as_json": False},
        ),
        (
            ["keys", "revoke", "7k2m9x4q", "--json"],
            "keys",
            {"action": "revoke", "key_id": "7k2m9x4q", "as_json": True},
        ),
    ],
)
def test_a_command_has_its_options_and_exit_code(
    arguments: list[str], name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command's exit code is the program's."""
    called = []

    def run_command(name: str, **options: Any) -> int:
        called.append((name, options))
        return 7

    monkeypatch.setattr(commands, "run_command", run_command)
    assert commands.run(arguments) == 7
    assert called == [(name, options)]


def test_commands_import_little() -> None:
    """The declarations of the commands load neither a store, a server nor rich's tables."""
    code = "import sys, session_service.commands; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"redis", "aiohttp", "rich", "structlog", "prometheus_client"}


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C exits with 130, as in shells."""

    def run_command(_name: str, **_options: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run_command", run_command)
    assert cli.main(["serve"]) == 130


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is a device of Linux")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_disk_is_reported_in_one_line(option: str) -> None:
    """Help and version cannot be written to it: the exit code is 1, without a traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "session_service", option],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "session-service: No space left on device\n")
