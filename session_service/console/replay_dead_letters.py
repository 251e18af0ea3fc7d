"""``session-service webhooks replay``."""

import sys
from collections.abc import Sequence

from session_service.client import SessionService
from session_service.console.confirmation import is_confirmed
from session_service.console.formats import number_of
from session_service.output import print_json


async def run(
    service: SessionService, *, webhook_id: str, ids: Sequence[str], yes: bool, as_json: bool
) -> int:
    """Deliver dead letters again; return 1 if one of ``ids`` is none, or the answer is no."""
    if not ids:
        dead = (await service.webhooks.get(webhook_id)).dead
        sys.stderr.write(f"{number_of(dead, 'event')} will be delivered again\n")
        is_asked = dead > 0 and not yes
        if is_asked and not is_confirmed("Deliver them?", "repeat with --yes, or with --id"):
            return 1
    replayed = (await service.webhooks.replay(webhook_id, ids=ids or None)).replayed
    if as_json:
        print_json({"replayed": replayed})
    else:
        sys.stdout.write(f"{number_of(replayed, 'event')} queued for delivery\n")
    missing = len(set(ids)) - replayed if ids else 0
    if missing > 0:
        sys.stderr.write(f"{number_of(missing, 'event')} not found among the dead letters\n")
    return 1 if missing > 0 else 0
