"""``session-service listen``: events for an endpoint on this machine."""

import asyncio
import os
import sys
from pathlib import Path

from session_service.client import Reset, SessionService, SessionServiceError
from session_service.console.connection_notes import ConnectionNotes
from session_service.console.event_lines import line, print_event, print_line, type_of
from session_service.console.formats import short_id
from session_service.console.forwarder import Forwarder
from session_service.console.outcomes import outcome_of
from session_service.console.pipes import while_read
from session_service.domain.addresses import EVERYWHERE
from session_service.domain.errors import ValidationFailed
from session_service.domain.signing import new_secret, read_secret
from session_service.domain.webhooks import check_url
from session_service.output import print_json_line


async def run(
    service: SessionService,
    *,
    forward_to: str,
    types: list[str],
    user: str | None,
    agent: str | None,
    secret_file: str | None,
    as_json: bool,
) -> int:
    """Post each event to ``forward_to``, one after the other, and print the outcome.

    One that fails is not sent again. Raises ValueError if the URL or the secret cannot be used.
    """
    try:
        check_url(forward_to, EVERYWHERE)
    except ValidationFailed as error:
        raise ValueError(f"--forward-to: {error}") from None
    secret = _secret(secret_file)
    stream = service.events.follow(
        user_id=user, agent_id=agent, types=types, on_connection=_Notes(forward_to)
    )
    forwarded = failed = 0
    try:
        async with Forwarder(forward_to, secret) as endpoint:
            with while_read():
                async for event in stream:
                    if isinstance(event, Reset):
                        print_event(event, as_json=as_json)
                        continue
                    outcome = await endpoint.post(event)
                    forwarded += outcome.delivered
                    failed += not outcome.delivered
                    if as_json:
                        print_json_line(outcome)
                    else:
                        told = f"{short_id(event.subject)}  {outcome_of(outcome)}"
                        print_line(line(event.time, type_of(event), told))
    except asyncio.CancelledError:  # by Ctrl-C
        after_echo = "\n" if sys.stderr.isatty() else ""  # a terminal shows ^C
        sys.stderr.write(f"{after_echo}{forwarded:,} forwarded, {failed:,} failed\n")
        raise
    return 0


class _Notes(ConnectionNotes):
    """Says also when the stream begins: earlier events are not posted."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._ready = f"posting events to {url} from now on\n"

    def __call__(self, failure: SessionServiceError | None) -> None:
        """Print a note."""
        if failure is None:
            sys.stderr.write(self._ready)
            self._ready = ""
        super().__call__(failure)


def _secret(path: str | None) -> str:
    """Return the secret in a file, or a new one, which is printed."""
    if path is None:
        secret = new_secret(os.urandom)
        sys.stderr.write(f"the secret that signs is {secret}\n")
        return secret
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
        read_secret(secret)
    except OSError as error:
        raise ValueError(str(error)) from None
    except ValidationFailed as error:
        raise ValueError(f"{path}: the {error}") from None
    return secret
