"""``session-service sessions end``: sessions by id, or all that match."""

import sys
from collections.abc import Sequence

from session_service.client import SessionNotFound, SessionService
from session_service.client.transport import path_of
from session_service.console.confirmation import is_confirmed
from session_service.console.formats import number_of
from session_service.console.progress import Bar
from session_service.output import print_json


async def run(
    service: SessionService,
    *,
    session_ids: Sequence[str],
    user: str | None,
    agent: str | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """End sessions; return 1 if one of ``session_ids`` is over already, or the answer is no."""
    if session_ids:
        return await _end_each(service, session_ids, as_json)
    total = (await service.sessions.list_page(user_id=user, agent_id=agent, limit=1)).total
    if dry_run:
        if as_json:
            print_json({"total": total})
        else:
            sys.stdout.write(f"{number_of(total, 'session')} would end\n")
        return 0
    sys.stderr.write(f"{number_of(total, 'session')} will end\n")
    if not yes and not is_confirmed("End them?", "repeat with --yes, or with --dry-run"):
        return 1
    ended = await _end_all(service, user, agent, everything, total)
    if as_json:
        print_json({"ended": ended})
    else:
        sys.stdout.write(f"{number_of(ended, 'session')} ended\n")
    return 0


async def _end_each(service: SessionService, session_ids: Sequence[str], as_json: bool) -> int:
    for session_id in session_ids:
        path_of(session_id)  # raises ValueError before a session is ended
    ended, missing = [], []
    for session_id in session_ids:
        try:
            await service.sessions.end(session_id)
        except SessionNotFound as error:
            missing.append(session_id)
            sys.stderr.write(f"{session_id}: {error}\n")
        else:
            ended.append(session_id)
            if not as_json:
                sys.stdout.write(f"{session_id} ended\n")
    if as_json:
        print_json({"ended": ended, "notFound": missing})
    return 1 if missing else 0


async def _end_all(
    service: SessionService, user: str | None, agent: str | None, everything: bool, total: int
) -> int:
    ended = 0
    with Bar("ending", shown=True) as bar:
        bar.update(ended, total)
        while True:
            result = await service.sessions.end_many(user_id=user, agent_id=agent, all_=everything)
            ended += result.ended
            bar.update(ended, total)  # sessions that begin meanwhile are ended, too
            if not result.more:
                return ended
