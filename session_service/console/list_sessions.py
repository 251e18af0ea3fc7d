"""``session-service sessions list``."""

import sys

from session_service.api.sessions import SessionInfo
from session_service.client import SessionService
from session_service.console.formats import short_id, short_time, since
from session_service.output import print_json_line, print_table

COLUMNS = ("ID", "USER", "AGENT", "AGE", "LEFT", "STATE")
STYLES = {"expiring": "yellow"}

_PAGE = 100


async def run(
    service: SessionService,
    *,
    user: str | None,
    agent: str | None,
    by_activity: bool,
    limit: int,
    as_json: bool,
) -> int:
    """Print up to ``limit`` sessions, or all for 0; JSON lines are printed as pages arrive."""
    sessions = service.sessions.list(
        user_id=user,
        agent_id=agent,
        order="activity" if by_activity else None,
        limit=min(limit or _PAGE, _PAGE),
    )
    rows: list[tuple[str, ...]] = []
    count = total = 0
    async for page in sessions.pages():
        total = page.total
        for session in page.sessions[: limit - count if limit else None]:
            count += 1
            if as_json:
                print_json_line(session)
            else:
                rows.append(row(session))
        if count == limit:
            break
    if not as_json:
        print_table(COLUMNS, rows, STYLES)
    if count < total and count == limit:
        sys.stderr.write(f"{count:,} of {total:,}; --limit 0 lists all\n")
    return 0


def row(session: SessionInfo) -> tuple[str, ...]:
    """Return the cells of a session, for ``COLUMNS``."""
    return (
        session.session_id,
        short_id(session.user_id),
        short_id(session.agent_id),
        since(session.created_at),
        short_time(session.time_remaining / 1000),
        "expiring" if session.is_near_expiration else "active",
    )
