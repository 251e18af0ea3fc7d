"""The commands ``events …``, declared with typer."""

from typing import Annotated

import typer

from session_service.console.options import Agent, JsonLines, KeyFile, Url, User, split
from session_service.console.run import run_remote

app = typer.Typer(help="Follow the events of a running service.")


@app.command("tail")
def tail_events(
    *,
    user: User = None,
    agent: Agent = None,
    session: Annotated[
        str | None, typer.Option(help="Only this session, until it is over.", metavar="ID")
    ] = None,
    types: Annotated[
        str, typer.Option("--type", help="Only these, e.g. expiring,ended.", metavar="a,b")
    ] = "",
    since: Annotated[
        str | None, typer.Option(help="Begin after this event, not now.", metavar="ID")
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: JsonLines = False,
) -> None:
    """Print events as they come, also while the service is restarted.

    \b
    Examples:
      session-service events tail --type expiring,ended
      session-service events tail --json >> log
      session-service events tail --json --since "$(tail -1 log | jq -r .id)" >> log
    """
    if session and (user or agent or types):
        raise typer.BadParameter("--session selects one: leave out --user, --agent and --type")
    options = {
        "user": user,
        "agent": agent,
        "session": session,
        "types": split(types),
        "since": since,
    }
    raise typer.Exit(run_remote("tail_events", url, key_file, **options, as_json=json))
