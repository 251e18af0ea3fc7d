"""``session-service trigger``."""

import sys

from session_service.client import SessionService
from session_service.console.outcomes import outcome_of
from session_service.domain.event_types import EVENT_TYPES
from session_service.output import print_json_line, printable


async def run(service: SessionService, *, event_type: str, webhook_id: str, as_json: bool) -> int:
    """Send a sample of a type, or one of each for ``all``; return 1 if the endpoint failed."""
    name = event_type.removeprefix("session.")
    if name not in (*EVENT_TYPES, "all"):
        raise ValueError(f"{event_type!r} is no type of event: all, {', '.join(EVENT_TYPES)}")
    failed = False
    for each in EVENT_TYPES if name == "all" else (name,):
        tested = await service.webhooks.test(webhook_id, each)
        failed = failed or not tested.delivered
        if as_json:
            print_json_line(tested)
        else:
            sys.stdout.write(f"{each:<8}  {printable(outcome_of(tested))}\n")
            sys.stdout.flush()
    return 1 if failed else 0
