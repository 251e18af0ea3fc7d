"""The commands ``webhooks …``, ``listen`` and ``trigger``, declared with typer."""

from typing import Annotated

import typer

from session_service.console.options import Agent, Json, JsonLines, KeyFile, Url, User, Yes, split
from session_service.console.run import run_remote

app = typer.Typer(help="Look after the webhooks of a running service.")

WebhookId = Annotated[str, typer.Argument(help="As `webhooks list` shows it.", metavar="ID")]


@app.command("list")
def list_webhooks(*, url: Url = None, key_file: KeyFile = None, json: JsonLines = False) -> None:
    """List the webhooks, and how many of their deliveries wait or are dead.

    \b
    Examples:
      session-service webhooks list
      session-service webhooks list --json | jq -r 'select(.dead > 0).webhookId'
    """
    raise typer.Exit(run_remote("list_webhooks", url, key_file, as_json=json))


@app.command("dead")
def list_dead_letters(
    webhook_id: WebhookId,
    *,
    url: Url = None,
    key_file: KeyFile = None,
    json: JsonLines = False,
) -> None:
    """List the deliveries to a webhook that failed for good, the oldest first.

    \b
    Examples:
      session-service webhooks dead 3f2504e0-4f89-41d3-9a0c-0305e82c3301
      session-service webhooks dead 3f2504e0-4f89-41d3-9a0c-0305e82c3301 --json | jq .event
    """
    raise typer.Exit(
        run_remote("list_dead_letters", url, key_file, webhook_id=webhook_id, as_json=json)
    )


@app.command("replay")
def replay_dead_letters(
    webhook_id: WebhookId,
    *,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Only this event; may be repeated.", metavar="ID"),
    ] = None,
    yes: Yes = False,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Deliver dead letters again: all, after it has printed their number and asked, or some.

    This also enables a webhook whose endpoint answered 410 Gone.

    \b
    Examples:
      session-service webhooks replay 3f2504e0-4f89-41d3-9a0c-0305e82c3301
      session-service webhooks replay 3f2504e0-4f89-41d3-9a0c-0305e82c3301 --id 1764000000000-3f-0
    """
    options = {"webhook_id": webhook_id, "ids": ids or [], "yes": yes}
    raise typer.Exit(run_remote("replay_dead_letters", url, key_file, **options, as_json=json))


def listen(
    *,
    forward_to: Annotated[str, typer.Option(help="The endpoint to post to.", metavar="URL")],
    types: Annotated[
        str, typer.Option("--type", help="Only these, e.g. expiring,ended.", metavar="a,b")
    ] = "",
    user: User = None,
    agent: Agent = None,
    secret_file: Annotated[
        str | None,
        typer.Option(
            help="A file with the secret that signs; by default a new one is printed.",
            metavar="PATH",
        ),
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: JsonLines = False,
) -> None:
    """Post events to a local endpoint as they come, signed as webhooks are, until Ctrl-C.

    \b
    Examples:
      session-service listen --forward-to http://localhost:8000/hook
      session-service listen --forward-to http://localhost:8000/hook --type expiring,ended
    """
    options = {
        "forward_to": forward_to,
        "types": split(types),
        "user": user,
        "agent": agent,
        "secret_file": secret_file,
    }
    raise typer.Exit(run_remote("listen", url, key_file, **options, as_json=json))


def trigger(
    event_type: Annotated[
        str, typer.Argument(help="Such as expiring, or all for one of each.", metavar="TYPE")
    ],
    *,
    webhook: Annotated[str, typer.Option(help="As `webhooks list` shows it.", metavar="ID")],
    url: Url = None,
    key_file: KeyFile = None,
    json: JsonLines = False,
) -> None:
    """Let the service send a sample of an event to a webhook, and print the outcome.

    The exit code is 1 if the endpoint failed.

    \b
    Examples:
      session-service trigger expiring --webhook 3f2504e0-4f89-41d3-9a0c-0305e82c3301
      session-service trigger all --webhook 3f2504e0-4f89-41d3-9a0c-0305e82c3301 --json
    """
    options = {"event_type": event_type, "webhook_id": webhook}
    raise typer.Exit(run_remote("trigger", url, key_file, **options, as_json=json))
