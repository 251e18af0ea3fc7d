"""``session-service events tail``."""

import sys

from session_service.client import Reset, SessionService, SessionServiceError
from session_service.console.event_lines import line_of
from session_service.console.pipes import while_read
from session_service.output import print_json_line, printable


async def run(
    service: SessionService,
    *,
    user: str | None,
    agent: str | None,
    session: str | None,
    types: list[str],
    since: str | None,
    as_json: bool,
) -> int:
    """Print events as they come, until the session's last one if there is a ``session``."""
    stream = service.events.follow(
        session_id=session,
        user_id=user,
        agent_id=agent,
        types=types,
        last_event_id=since,
        on_connection=Connection(),
    )
    with while_read():
        async for item in stream:
            if as_json:
                print_json_line(
                    {"type": "reset", "id": item.id} if isinstance(item, Reset) else item
                )
            else:
                sys.stdout.write(f"{line_of(item)}\n")
                sys.stdout.flush()
    return 0


class Connection:
    """Notes on standard error that a stream has lost its connection, and that it is back."""

    def __init__(self) -> None:
        self._was_lost = False

    def __call__(self, failure: SessionServiceError | None) -> None:
        """Print a note; the first connection is none."""
        if failure is not None:
            sys.stderr.write(f"lost the connection: {printable(str(failure))}; trying again\n")
        elif self._was_lost:
            sys.stderr.write("connected again\n")
        self._was_lost = failure is not None
        sys.stderr.flush()
