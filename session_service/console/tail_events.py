"""``session-service events tail``."""

from session_service.client import SessionService
from session_service.console.connection_notes import ConnectionNotes
from session_service.console.event_lines import print_event
from session_service.console.pipes import while_read


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
        on_connection=ConnectionNotes(),
    )
    with while_read():
        async for item in stream:
            print_event(item, as_json=as_json)
    return 0
