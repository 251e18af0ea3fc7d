"""The command line, declared with typer (docs/decisions/0015-command-line.md).

A command on the host is a function here, the docstring of which is its help text, and the module of
its name in ``process``, which is imported when the command runs (``process/command.py``). The
commands on a running service are declared in ``console``.
"""

import sys
from typing import Annotated

import typer

from session_service import __version__
from session_service.console import event_commands, session_commands, webhook_commands
from session_service.process.command import run_command, run_module
from session_service.process.listen_fds import OPTION, read

_app = typer.Typer(
    help="The Sessions API on Redis. Settings come from the environment.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted by Ctrl-C.",
    add_completion=False,
    pretty_exceptions_enable=False,  # a defect's trace is for the log, without local variables
)


def run(arguments: list[str]) -> int:
    """Run the command that the arguments name; return its exit code, or 2 for wrong usage.

    If help or version cannot be written, as on a full disk, one line says so; the code is 1 then.
    """
    try:
        _app(arguments, prog_name="session-service")
    except SystemExit as end:
        return int(end.code or 0)
    except OSError as error:
        sys.stderr.write(f"session-service: {error.strerror}\n")
        return 1
    return 0


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@_app.callback()
def _program(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


_keys = typer.Typer(help="Manage the API keys, in the store of the settings.")
_app.add_typer(_keys, name="keys")
_app.add_typer(session_commands.app, name="sessions")
_app.add_typer(event_commands.app, name="events")
_app.add_typer(webhook_commands.app, name="webhooks")
_app.command("listen")(webhook_commands.listen)
_app.command("trigger")(webhook_commands.trigger)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_KeyId = Annotated[str, typer.Argument(help="As `keys list` shows it.", metavar="ID")]


@_app.command()
def serve(listen_fds: Annotated[str, typer.Option(OPTION, hidden=True)] = "") -> None:
    """Serve the Sessions API."""
    raise typer.Exit(run_command("serve", listen_fds=read(listen_fds)))


@_app.command()
def healthcheck(json: _Json = False) -> None:
    """Exit with 0 if the service on HOST and PORT is ready, else with 1."""
    raise typer.Exit(run_command("healthcheck", as_json=json))


@_app.command()
def settings(json: _Json = False) -> None:
    """Print each setting with its value and source, without secrets.

    Exits with 1 if a value is not allowed: the service would not start.

    \b
    Examples:
      session-service settings | grep -v default
      session-service settings --json | jq -r '.problems[]'
    """
    raise typer.Exit(run_module("settings", as_json=json))


@_app.command()
def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    json: _Json = False,
) -> None:
    """Look for problems of the settings, this machine and the store, and say what to do.

    Run it with the settings of the service. Exits with 1 if it finds an error, else with 0.

    \b
    Examples:
      session-service doctor
      session-service doctor --strict --json | jq '.findings[] | select(.level != "ok")'
    """
    raise typer.Exit(run_module("doctor", strict=strict, as_json=json))


@_app.command()
def backup(
    directory: Annotated[str, typer.Argument(help="A new directory.", metavar="DIRECTORY")],
    json: _Json = False,
) -> None:
    """Copy the data of the embedded store, while it runs or not, and verify the copy.

    Exits with 0 if the copy is complete, with 1 if not, and with 2 if there is nothing to copy.

    \b
    Example:
      session-service backup backups/$(date +%F)
    """
    raise typer.Exit(run_command("backup", directory=directory, as_json=json))


@_app.command()
def capacity(
    *,
    sessions: Annotated[str, typer.Option(help="Live at a time, e.g. 100e6.", metavar="N")],
    heartbeat: Annotated[
        str, typer.Option(help="Time between two of a session, e.g. 5m; 0: none.", metavar="TIME")
    ] = "0",
    messages: Annotated[
        str, typer.Option(help="Of a session, and their bytes, e.g. 20x300.", metavar="NxBYTES")
    ] = "0x0",
    metadata: Annotated[int, typer.Option(help="Bytes of a session's metadata.", min=0)] = 100,
    lifetime: Annotated[
        str, typer.Option(help="Of a session, from creation to end.", metavar="TIME")
    ] = "12h",
    ended: Annotated[
        int, typer.Option(help="Percent that end by a request; others expire.", min=0, max=100)
    ] = 0,
    master_memory: Annotated[
        str, typer.Option(help="Of the machine of a master.", metavar="SIZE")
    ] = "64gb",
    nodes: Annotated[int, typer.Option(help="Nodes of the service.", min=1)] = 2,
    json: _Json = False,
) -> None:
    """Estimate the memory, masters and cores for a number of sessions.

    Retentions are those of the settings.

    \b
    Examples:
      session-service capacity --sessions 200000 --messages 20x200
      session-service capacity --sessions 100e6 --heartbeat 5m --messages 20x300 --json
    """
    options = {
        "sessions": sessions,
        "heartbeat": heartbeat,
        "messages": messages,
        "metadata": metadata,
        "lifetime": lifetime,
        "ended": ended,
        "master_memory": master_memory,
        "nodes": nodes,
    }
    raise typer.Exit(run_command("capacity", **options, as_json=json))


@_app.command()
def repair(
    check: Annotated[bool, typer.Option("--check", help="Inspect only; change nothing.")] = False,
    json: _Json = False,
) -> None:
    """Save the readable data of an embedded store whose files are damaged.

    Exits with 0 if the data can be loaded, with 1 if not, and with 2 if there are none.

    \b
    Examples:
      session-service repair --check
      SESSION_DATA_DIR=backups/monday session-service repair --check --json
    """
    raise typer.Exit(run_command("repair", check_only=check, as_json=json))


@_app.command()
def show(
    key: Annotated[str, typer.Argument(help="Its name, or the id of a session.", metavar="KEY")],
    limit: Annotated[
        int, typer.Option("--limit", help="Entries to print, at most.", min=1, max=10_000)
    ] = 20,
    json: _Json = False,
) -> None:
    """Print a key of the store decoded, and change nothing.

    \b
    Examples:
      session-service show c573bfcf-4d3e-4a16-a194-30faf9ec1102
      session-service show 'session-service:{00}:meta' --json
    """
    raise typer.Exit(run_command("show", key=key, limit=limit, as_json=json))


@_keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Of its user, for lists and logs.", metavar="NAME")],
    scopes: Annotated[
        str, typer.Option(help="What it permits, separated by commas.", metavar="a,b")
    ],
    agents: Annotated[
        str, typer.Option(help="Up to 16 agents that it is limited to.", metavar="ID,ID")
    ] = "",
    expires_in_days: Annotated[
        int | None, typer.Option(help="By default it does not expire.", min=1, max=3650)
    ] = None,
    json: _Json = False,
) -> None:
    """Create a key, and print it: it cannot be shown again.

    \b
    Example:
      session-service keys create billing --scopes sessions:read --expires-in-days 90 > key
    """
    options = {"key_name": name, "scopes": scopes, "agents": agents, "days": expires_in_days}
    raise typer.Exit(run_command("keys", action="create", **options, as_json=json))


@_keys.command("list")
def list_keys(json: _Json = False) -> None:
    """List all keys, without their secrets.

    \b
    Example:
      session-service keys list --json | jq -r '.keys[] | select(.state == "valid").name'
    """
    raise typer.Exit(run_command("keys", action="list", as_json=json))


@_keys.command("rotate")
def rotate_key(
    key_id: _KeyId,
    overlap_hours: Annotated[
        int, typer.Option(help="For which the key before is accepted, too.", min=0, max=168)
    ] = 24,
    json: _Json = False,
) -> None:
    """Replace the secret of a key, and print the new key.

    \b
    Example:
      session-service keys rotate 7k2m9x4q --overlap-hours 1 > key
    """
    options = {"key_id": key_id, "overlap_hours": overlap_hours}
    raise typer.Exit(run_command("keys", action="rotate", **options, as_json=json))


@_keys.command("revoke")
def revoke_key(key_id: _KeyId, json: _Json = False) -> None:
    """Revoke a key for good, on every node within 2 s.

    \b
    Example:
      session-service keys revoke 7k2m9x4q
    """
    raise typer.Exit(run_command("keys", action="revoke", key_id=key_id, as_json=json))
