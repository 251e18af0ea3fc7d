"""``session-service sessions show``."""

import sys
from collections.abc import Iterator

import msgspec

from session_service.api.messages import MessageInfo
from session_service.api.sessions import SessionInfo
from session_service.client import SessionService
from session_service.console.formats import short_time, since
from session_service.output import print_json, printable

_PAGE = 100


async def run(service: SessionService, *, session_id: str, messages: int, as_json: bool) -> int:
    """Print a session and up to ``messages`` of its newest messages, in their order."""
    session = await service.sessions.get(session_id)
    newest: list[MessageInfo] = []
    if messages:
        async for message in service.messages.list(session_id, limit=min(messages, _PAGE)):
            newest.append(message)
            if len(newest) == messages:
                break
    newest.reverse()
    if as_json:
        print_json({"session": session, "messages": newest})
        return 0
    for name, value in _facts(session):
        sys.stdout.write(f"{name:<10}{printable(value)}\n")
    for message in newest:
        sys.stdout.write(f"\n{line_of(message)}\n")
    return 0


def line_of(message: MessageInfo) -> str:
    """Return a message for people, e.g. ``12:00:00 agent: Hello``, in UTC."""
    author = "agent" if message.is_agent else "user"
    return f"{message.created_at[11:19]} {author}: {printable(message.content)}"


def _facts(session: SessionInfo) -> Iterator[tuple[str, str]]:
    timeouts = session.timeout_config
    left = short_time(session.time_remaining / 1000)
    state = "expiring" if session.is_near_expiration else "active"
    renews = "renews itself" if timeouts.auto_renew else "does not renew itself"
    yield "session", session.session_id
    yield "user", session.user_id
    yield "agent", session.agent_id
    yield "state", f"{state}, expires in {left} ({session.expires_at})"
    yield "created", f"{since(session.created_at)} ago ({session.created_at})"
    yield "activity", f"{since(session.last_activity)} ago ({session.last_activity})"
    yield (
        "timeout",
        f"{timeouts.timeout_minutes:g} minutes, at most {timeouts.max_duration_minutes:g};"
        f" warns {timeouts.warning_threshold_minutes:g} before; {renews}"
        f", {session.renewal_count}x so far",
    )
    yield "metadata", msgspec.json.encode(session.metadata).decode()
