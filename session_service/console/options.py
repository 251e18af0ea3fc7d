"""The options that all commands on a running service share."""

from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        help="Of the service; $SESSION_SERVICE_URL, or http://localhost:3000, by default.",
        metavar="URL",
    ),
]
KeyFile = Annotated[
    str | None,
    typer.Option(
        help="A file with an API key; $SESSION_SERVICE_KEY_FILE by default.", metavar="PATH"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, one document on each line.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
SessionId = Annotated[str, typer.Argument(help="The id of the session.", metavar="ID")]
User = Annotated[str | None, typer.Option(help="Only those of this user.", metavar="ID")]
Agent = Annotated[str | None, typer.Option(help="Only those with this agent.", metavar="ID")]


def split(names: str) -> list[str]:
    """Return the names in a list such as ``expiring,ended``."""
    return [name.strip() for name in names.split(",") if name.strip()]
