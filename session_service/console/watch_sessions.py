"""``session-service sessions watch``: a table on a terminal, else a line for each change."""

import asyncio
import signal
import sys
import time

from rich.console import Console
from rich.live import Live

from session_service.client import (
    EventStream,
    Forbidden,
    Reset,
    SessionExpired,
    SessionNotFound,
    SessionService,
    SessionServiceError,
    Unauthorized,
)
from session_service.console.side_by_side import side_by_side
from session_service.console.watch_lines import watch
from session_service.console.watch_table import render, room_of
from session_service.console.watched import READ_SECONDS, Row, Watched

_TERMINATED = 128 + signal.SIGTERM
_DRAW_SECONDS = 1.0
_VACANT_SECONDS = 2.0  # between two lists if the screen has room for more sessions
_READS = 10  # of single sessions between two drawings, at most
_TIMEOUT = 5.0


async def run(
    service: SessionService, *, user: str | None, agent: str | None, as_json: bool
) -> int:
    """Show the sessions and their changes until Ctrl-C, or until nobody reads the output."""
    if as_json or not sys.stdout.isatty():
        await watch(service, user=user, agent=agent, as_json=as_json)
    else:
        await _Screen(service, user, agent).run()
    return 0


class _Screen:
    """The table, which takes over the screen of the terminal and gives it back at the end."""

    def __init__(self, service: SessionService, user: str | None, agent: str | None) -> None:
        self._service = service
        self._user = user
        self._agent = agent
        self._console = Console()
        self._watched = Watched()
        self._failure: SessionServiceError | None = None
        self._reading = asyncio.Lock()  # events wait, so that no state is older than the last event
        self._list_at = 0.0  # by time.monotonic()

    async def run(self) -> None:
        """Draw and follow; raises the errors that will not pass, on the terminal as it was."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sys.exit, _TERMINATED)
        async with self._service.events.follow(
            user_id=self._user, agent_id=self._agent, on_connection=self._note
        ) as events:
            self._watched.room = room_of(self._console)
            await self._list()
            with Live(console=self._console, screen=True, auto_refresh=False) as live:
                await side_by_side(self._follow(events), self._draw(live), self._keep_current())

    async def _follow(self, events: EventStream) -> None:
        async for item in events:
            async with self._reading:
                if isinstance(item, Reset):
                    self._watched.clear()
                    self._list_at = 0.0
                else:
                    self._watched.apply(item)

    def _note(self, failure: SessionServiceError | None) -> None:
        self._failure = failure

    async def _draw(self, live: Live) -> None:
        while True:
            self._watched.room = room_of(self._console)  # the window may have another size now
            connection = "connected"
            if self._failure is not None:
                connection = f"reconnecting: {self._failure}"
            screen = render(
                self._console,
                self._watched,
                user=self._user,
                agent=self._agent,
                connection=connection,
            )
            live.update(screen, refresh=True)
            await asyncio.sleep(_DRAW_SECONDS)

    async def _keep_current(self) -> None:
        while True:
            await asyncio.sleep(_DRAW_SECONDS)
            if self._failure is not None:
                continue
            try:
                if self._must_list():
                    await self._list()
                for row in [*self._watched.due()][:_READS]:
                    await self._read(row)
            except (Unauthorized, Forbidden):
                raise
            except SessionServiceError:  # it may pass; the next attempt is in a second
                continue

    def _must_list(self) -> bool:
        wait = _VACANT_SECONDS if self._watched.has_vacancy() else READ_SECONDS
        return time.monotonic() >= self._list_at + wait

    async def _list(self) -> None:
        async with self._reading:
            page = await self._service.sessions.list_page(
                user_id=self._user,
                agent_id=self._agent,
                limit=min(self._watched.room, 100),
                timeout=_TIMEOUT,
            )
            self._watched.list(page)
        self._list_at = time.monotonic()

    async def _read(self, row: Row) -> None:
        row.read_at = time.monotonic()  # also if it fails: the others come first then
        async with self._reading:
            try:
                session = await self._service.sessions.get(row.session_id, timeout=_TIMEOUT)
            except SessionExpired:
                row.end("expired")
            except SessionNotFound:
                row.end("ended")
            else:
                self._watched.read(session)
