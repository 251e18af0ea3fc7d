"""``session-service sessions export``."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, TypeVar

from session_service.api.messages import MessagePage
from session_service.api.sessions import SessionInfo, SessionList
from session_service.client import (
    RecordUnreadable,
    SessionExpired,
    SessionNotFound,
    SessionService,
    SessionServiceError,
)
from session_service.console.export_format import (
    Counts,
    Header,
    Position,
    encode,
    find_last_position,
    locked,
    new_header,
)
from session_service.console.formats import number_of
from session_service.console.progress import Bar
from session_service.console.transfers import patiently
from session_service.output import print_json

_PAGE = 100  # sessions, which a resumed export may read again
_MESSAGES = 100  # in a page
_AT_ONCE = 8  # pages of messages in memory, of up to 1 MiB each

T = TypeVar("T")
R = TypeVar("R")


async def run(
    service: SessionService,
    *,
    user: str | None,
    agent: str | None,
    messages: bool,
    output: str | None,
    resume: bool,
    as_json: bool,
) -> int:
    """Export sessions to a file or standard output; return 1 if one cannot be read."""
    header = new_header(user, agent, messages=messages)
    with _opened(output, header, resume) as (file, position):
        if isinstance(position, Position):
            export = _Export(service, file, header, position)
            try:
                with Bar("exporting", shown=output is not None) as bar:
                    counts = await export.run(bar)
            except (SessionServiceError, asyncio.CancelledError):
                if output:
                    sys.stderr.write("To go on, repeat the command with --resume.\n")
                raise
        else:
            sys.stderr.write(f"{output} is complete\n")
            counts = position
    _report(counts)
    if as_json and output:
        print_json(counts)
    return 1 if counts.unreadable else 0


@contextmanager
def _opened(
    output: str | None, header: Header, resume: bool
) -> Iterator[tuple[IO[bytes], Position | Counts]]:
    """Open the file, and return the position from which the export goes on."""
    if output is None:
        sys.stdout.buffer.write(encode("export", header))
        yield sys.stdout.buffer, Position()
        return
    path = Path(output)
    if not resume and path.exists():
        raise ValueError(f"{path} exists: go on with --resume, or name another file")
    with locked(path, "ab+") as file:
        position = find_last_position(file, header)
        if position is None:
            file.write(encode("export", header))
            position = Position()
        yield file, position


class _Export:
    """Writes pages of sessions, each with its messages, and after each page its position."""

    def __init__(
        self, service: SessionService, file: IO[bytes], header: Header, position: Position
    ) -> None:
        self._service = service
        self._file = file
        self._header = header
        self._position = position

    async def run(self, bar: Bar) -> Counts:
        """Write the rest of the sessions, and the end; return the counts of the whole file."""
        position = self._position
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                await self._write_sessions(page.sessions)
                if page.next_cursor:
                    position.cursor = page.next_cursor
                    self._file.write(encode("position", position))
                self._file.flush()
                bar.update(position.sessions, page.total)
        counts = Counts(
            position.sessions, position.messages, position.ended, await self._unreadable()
        )
        self._file.write(encode("end", counts))
        self._file.flush()
        return counts

    async def _pages(self) -> AsyncGenerator[SessionList, None]:
        """Read the next page while one is written."""

        async def read(cursor: str | None) -> SessionList:
            return await patiently(
                lambda: self._service.sessions.list_page(
                    user_id=self._header.user_id,
                    agent_id=self._header.agent_id,
                    limit=_PAGE,
                    cursor=cursor,
                )
            )

        following: asyncio.Task[SessionList] | None
        following = asyncio.create_task(read(self._position.cursor))
        try:
            while following:
                page = await following
                following = None
                if page.next_cursor:
                    following = asyncio.create_task(read(page.next_cursor))
                yield page
        finally:
            if following:
                following.cancel()

    async def _write_sessions(self, sessions: Iterable[SessionInfo]) -> None:
        if not self._header.messages:
            for session in sessions:
                self._write(session)
            return
        async with aclosing(_in_order(self._first_messages, sessions)) as pairs:
            async for session, page in pairs:
                if page is not None:
                    self._write(session)
                    await self._write_messages(session.session_id, page)

    def _write(self, session: SessionInfo) -> None:
        self._position.sessions += 1
        self._file.write(encode("session", session))

    async def _first_messages(self, session: SessionInfo) -> tuple[SessionInfo, MessagePage | None]:
        return session, await self._read(session.session_id, 0)

    async def _write_messages(self, session_id: str, page: MessagePage | None) -> None:
        while page:
            self._position.messages += len(page.messages)
            for message in reversed(page.messages):
                self._file.write(encode("message", message))
            if not page.has_more or not page.cursors:
                return
            page = await self._read(session_id, page.cursors.after)

    async def _read(self, session_id: str, after: int) -> MessagePage | None:
        """Read messages; count and report a session that has none any more."""
        try:
            return await patiently(
                lambda: self._service.messages.read(session_id, after=after, limit=_MESSAGES)
            )
        except (SessionNotFound, SessionExpired):
            self._position.ended += 1
        except RecordUnreadable as error:
            self._position.unreadable += 1
            sys.stderr.write(f"{session_id}: {error}\n")
        return None

    async def _unreadable(self) -> int:
        """Return how many sessions cannot be read; lists leave them out, and health counts them."""
        found = self._position.unreadable  # their conversations
        if self._header.user_id or self._header.agent_id:
            return found
        try:
            return found + ((await self._service.health.get()).invalid_sessions or 0)
        except SessionServiceError:  # the credential may lack the right to know
            return found


async def _in_order(
    function: Callable[[T], Awaitable[R]], items: Iterable[T]
) -> AsyncGenerator[R, None]:
    """Return the results for items, in their order; a few calls are in progress at a time."""

    async def call(item: T) -> R:
        return await function(item)

    tasks: deque[asyncio.Task[R]] = deque()
    try:
        for item in items:
            if len(tasks) == _AT_ONCE:
                yield await tasks.popleft()
            tasks.append(asyncio.create_task(call(item)))
        while tasks:
            yield await tasks.popleft()
    finally:
        for task in tasks:
            task.cancel()


def _report(counts: Counts) -> None:
    text = f"{number_of(counts.sessions, 'session')} with {number_of(counts.messages, 'message')}"
    if counts.ended:
        text += f"; {counts.ended:,} ended meanwhile"
    if counts.unreadable:
        text += f"; {counts.unreadable:,} cannot be read"
    sys.stderr.write(f"{text}\n")
