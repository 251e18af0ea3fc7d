"""``session-service webhooks dead``."""

from session_service.api.webhooks import DeadLetterInfo
from session_service.client import SessionService
from session_service.console.formats import since
from session_service.console.outcomes import describe
from session_service.output import print_json_line, print_table

COLUMNS = ("EVENT", "TYPE", "SESSION", "ATTEMPTS", "AGE", "LAST FAILURE")

_PAGE = 500


async def run(service: SessionService, *, webhook_id: str, as_json: bool) -> int:
    """Print all dead letters; JSON lines are printed as pages arrive."""
    letters = service.webhooks.dead_letters(webhook_id, limit=_PAGE)
    rows = []
    async for letter in letters:
        if as_json:
            print_json_line(letter)
        else:
            rows.append(row(letter))
    if not as_json:
        print_table(COLUMNS, rows)
    return 0


def row(letter: DeadLetterInfo) -> tuple[str, ...]:
    """Return the cells of a dead letter, for ``COLUMNS``."""
    event = letter.event or {}
    return (
        letter.id,
        str(event.get("type", "?")).removeprefix("session."),
        str(event.get("subject", "?")),
        str(letter.attempts),
        since(letter.dead_since),
        describe(letter.last_failure),
    )
