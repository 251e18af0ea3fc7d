"""``session-service webhooks list``."""

from session_service.api.webhooks import WebhookInfo
from session_service.client import SessionService
from session_service.output import print_json_line, print_table

COLUMNS = ("ID", "URL", "TYPES", "QUEUED", "DEAD", "DROPPED", "STATE")
STYLES = {"gone": "yellow", "unreadable": "bold red"}


async def run(service: SessionService, *, as_json: bool) -> int:
    """Print all webhooks; a service has at most a hundred."""
    webhooks = (await service.webhooks.list()).webhooks
    if as_json:
        for webhook in webhooks:
            print_json_line(webhook)
    else:
        print_table(COLUMNS, [row(webhook) for webhook in webhooks], STYLES)
    return 0


def row(webhook: WebhookInfo) -> tuple[str, ...]:
    """Return the cells of a webhook, for ``COLUMNS``."""
    types = [each.removeprefix("session.") for each in webhook.types or ["all"]]
    counts = (webhook.queued, webhook.dead, webhook.dropped)
    return (
        webhook.webhook_id,
        webhook.url,
        ",".join(types),
        *(f"{count:,}" for count in counts),
        webhook.status,
    )
