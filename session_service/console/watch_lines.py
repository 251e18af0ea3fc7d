"""``session-service sessions watch`` through a pipe: a line for each session and each change."""

from session_service.api.sessions import SessionInfo
from session_service.client import Reset, SessionService
from session_service.console.connection_notes import ConnectionNotes
from session_service.console.event_lines import line, now, print_event, print_line
from session_service.console.formats import short_id
from session_service.console.pipes import while_read
from session_service.output import print_json_line


async def watch(
    service: SessionService, *, user: str | None, agent: str | None, as_json: bool
) -> None:
    """Print all sessions, then the events, which begin before the list is read.

    After a reset all sessions are printed again.
    """

    async def list_all() -> None:
        async for session in service.sessions.list(user_id=user, agent_id=agent):
            if as_json:
                print_json_line(session)
            else:
                print_line(_line_of(session))

    notes = ConnectionNotes()
    with while_read():
        async with service.events.follow(
            user_id=user, agent_id=agent, on_connection=notes
        ) as events:
            await list_all()  # meanwhile the service keeps the events
            async for item in events:
                print_event(item, as_json=as_json)
                if isinstance(item, Reset):
                    await list_all()


def _line_of(session: SessionInfo) -> str:
    state = "expiring" if session.is_near_expiration else "active"
    ids = f"user {short_id(session.user_id)}, agent {short_id(session.agent_id)}"
    return line(now(), state, f"{session.session_id}  {ids}, to {session.expires_at}")
