"""The commands ``sessions …``, declared with typer."""

from typing import Annotated

import typer

from session_service.console.options import (
    Agent,
    Json,
    JsonLines,
    KeyFile,
    SessionId,
    Url,
    User,
    Yes,
)
from session_service.console.run import run_remote

app = typer.Typer(help="Look into the sessions of a running service, end them, and move them.")


@app.command("list")
def list_sessions(
    *,
    user: User = None,
    agent: Agent = None,
    by_activity: Annotated[
        bool, typer.Option("--by-activity", help="With --user: by last activity.")
    ] = False,
    limit: Annotated[int, typer.Option(help="Sessions at most; 0: all.", min=0)] = 100,
    url: Url = None,
    key_file: KeyFile = None,
    json: JsonLines = False,
) -> None:
    """List live sessions; those of a user come newest first.

    \b
    Examples:
      session-service sessions list --user 3f1c9a2e-0b1d-4a51-9c3e-8d2f1b7a6c05
      session-service sessions list --limit 0 --json | jq -r .sessionId
    """
    options = {"user": user, "agent": agent, "by_activity": by_activity, "limit": limit}
    raise typer.Exit(run_remote("list_sessions", url, key_file, **options, as_json=json))


@app.command("show")
def show_session(
    session_id: SessionId,
    *,
    messages: Annotated[int, typer.Option(help="Of the newest messages.", min=0, max=1000)] = 20,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Print a session and its newest messages. This is no activity of the session.

    \b
    Examples:
      session-service sessions show c573bfcf-4d3e-4a16-a194-30faf9ec1102
      session-service sessions show c573bfcf-4d3e-4a16-a194-30faf9ec1102 --json | jq .messages
    """
    raise typer.Exit(
        run_remote(
            "show_session", url, key_file, session_id=session_id, messages=messages, as_json=json
        )
    )


@app.command("watch")
def watch_sessions(
    *,
    user: User = None,
    agent: Agent = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: JsonLines = False,
) -> None:
    """Show live sessions in a table that keeps itself current. Ctrl-C ends it.

    Through a pipe, each session is a line, and then each change.

    \b
    Examples:
      session-service sessions watch --user 3f1c9a2e-0b1d-4a51-9c3e-8d2f1b7a6c05
      session-service sessions watch --json | jq -r 'select(.type == "session.ended").subject'
    """
    options = {"user": user, "agent": agent}
    raise typer.Exit(run_remote("watch_sessions", url, key_file, **options, as_json=json))


@app.command("end")
def end_sessions(
    session_ids: Annotated[
        list[str] | None, typer.Argument(help="The sessions to end.", metavar="[ID]...")
    ] = None,
    *,
    user: Annotated[str | None, typer.Option(help="All of this user.", metavar="ID")] = None,
    agent: Annotated[str | None, typer.Option(help="All with this agent.", metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print their number only.")] = False,
    yes: Yes = False,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """End sessions by id, or all that match, after it has printed how many they are and asked.

    \b
    Examples:
      session-service sessions end c573bfcf-4d3e-4a16-a194-30faf9ec1102
      session-service sessions end --user 3f1c9a2e-0b1d-4a51-9c3e-8d2f1b7a6c05 --dry-run
      session-service sessions end --agent 7e57a9e7-0b1d-4a51-9c3e-8d2f1b7a6c05 --yes
    """
    if bool(session_ids) == bool(user or agent or everything) or (everything and (user or agent)):
        raise typer.BadParameter("name ids, or --user, --agent or both, or --all")
    if session_ids and dry_run:
        raise typer.BadParameter("--dry-run counts a selection: name no ids with it")
    options = {
        "session_ids": session_ids or [],
        "user": user,
        "agent": agent,
        "everything": everything,
        "dry_run": dry_run,
        "yes": yes,
    }
    raise typer.Exit(run_remote("end_sessions", url, key_file, **options, as_json=json))


@app.command("export")
def export_sessions(
    *,
    user: User = None,
    agent: Agent = None,
    no_messages: Annotated[
        bool, typer.Option("--no-messages", help="Leave the conversations out.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(help="The file to write; by default, standard output.", metavar="FILE"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an export that was interrupted.")
    ] = False,
    url: Url = None,
    key_file: KeyFile = None,
    json: Annotated[bool, typer.Option("--json", help="With --output: print the counts.")] = False,
) -> None:
    """Write live sessions and their conversations as JSON lines.

    \b
    Examples:
      session-service sessions export --output sessions.jsonl
      session-service sessions export --output sessions.jsonl --resume
      session-service sessions export --user 3f1c9a2e-0b1d-4a51-9c3e-8d2f1b7a6c05 | gzip > ann.gz
    """
    if resume and output is None:
        raise typer.BadParameter("--resume needs --output, the file to go on with")
    options = {
        "user": user,
        "agent": agent,
        "messages": not no_messages,
        "output": output,
        "resume": resume,
        "as_json": json,
    }
    raise typer.Exit(run_remote("export_sessions", url, key_file, **options))


@app.command("import")
def import_sessions(
    source: Annotated[
        str, typer.Argument(help="The export; - for standard input.", metavar="FILE")
    ],
    *,
    ids: Annotated[
        str | None,
        typer.Option(help="The file for old and new ids; by default FILE.ids.", metavar="PATH"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an import that was interrupted.")
    ] = False,
    url: Url = None,
    key_file: KeyFile = None,
    json: JsonLines = False,
) -> None:
    """Create the sessions of an export anew, and print the old and the new id of each.

    \b
    Examples:
      session-service sessions import sessions.jsonl --url https://new.example.org
      session-service sessions import sessions.jsonl --url https://new.example.org --resume
      gunzip < ann.gz | session-service sessions import - --ids ann.ids
    """
    options = {"source": source, "ids": ids, "resume": resume, "as_json": json}
    raise typer.Exit(run_remote("import_sessions", url, key_file, **options))
