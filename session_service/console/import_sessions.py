"""``session-service sessions import``."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
from msgspec import UNSET

from session_service.client import (
    AgentNotFound,
    Forbidden,
    IdempotencyMismatch,
    InternalError,
    PayloadTooLarge,
    RecordUnreadable,
    SessionExpired,
    SessionNotFound,
    SessionService,
    SessionServiceError,
    TooManyMessages,
    TooManySessions,
    ValidationFailed,
)
from session_service.console import export_format
from session_service.console.export_format import SourceMessage, SourceSession
from session_service.console.formats import number_of
from session_service.console.import_ids import KEYS_HOURS, Ids, Result, is_too_old
from session_service.console.lines import lines_of
from session_service.console.progress import Bar
from session_service.console.transfers import patiently
from session_service.output import discard_output, print_json_line, printable

_AT_ONCE = 32  # sessions
WITHIN = f"within {KEYS_HOURS} hours"
# Errors of one session: the next one may have none.
_REFUSALS = (
    AgentNotFound,
    Forbidden,
    IdempotencyMismatch,
    InternalError,
    PayloadTooLarge,
    RecordUnreadable,
    SessionExpired,
    SessionNotFound,
    TooManyMessages,
    TooManySessions,
    ValidationFailed,
)
_WAITING_BYTES = 4 * 1024 * 1024  # of lines with messages that are not sent yet


async def run(
    service: SessionService, *, source: str, ids: str | None, resume: bool, as_json: bool
) -> int:
    """Import an export; return 1 if a session or message was refused, or the export is cut off."""
    path = None if source == "-" else Path(source)
    ids_path = Path(ids) if ids else path and path.with_name(f"{path.name}.ids")
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb")) if path else sys.stdin
        lines = lines_of(file.fileno())
        header = export_format.check_header(await anext(lines, b""))
        total = _total_of(path) if path else None
        known = Ids(stack.enter_context(_opened(ids_path, resume)), header.id)
        stack.callback(known.close)
        bar = stack.enter_context(Bar("importing", shown=not sys.stdout.isatty()))
        work = _Import(service, known, total, as_json)
        try:
            await work.run(lines, bar)
        except (SessionServiceError, asyncio.CancelledError):
            if ids_path:
                sys.stderr.write(f"To go on, repeat the command with --resume, {WITHIN}.\n")
            raise
    work.report()
    return 0 if work.is_complete and not work.failed and not known.incomplete else 1


def _total_of(path: Path) -> int:
    """Return the number of sessions; raise ValueError if the export is not complete."""
    end = export_format.end_of(path)
    if end is None:
        raise ValueError(f"{path} is not complete: finish it with sessions export --resume")
    return end.sessions


def _opened(path: Path | None, resume: bool) -> AbstractContextManager[IO[bytes] | None]:
    """Open the file for ids; raise ValueError if it exists and the import is not resumed."""
    if path is None:
        if resume:
            raise ValueError("--resume needs --ids if the export comes from standard input")
        return nullcontext()
    if path.exists():
        if not resume:
            raise ValueError(
                f"{path} exists, so an import was begun: go on with --resume, or import everything"
                " again with another file for --ids"
            )
        if is_too_old(path):
            sys.stderr.write(
                f"The import was not resumed {WITHIN}: up to {_AT_ONCE} sessions that it had begun"
                " may be imported a second time.\n"
            )
    return export_format.locked(path, "ab+")


class _Waiting(NamedTuple):
    message: SourceMessage
    size: int


class _Room:
    """Bounds the memory of the messages that have been read and not been sent."""

    def __init__(self) -> None:
        self._taken = 0
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        while self._taken and self._taken + size > _WAITING_BYTES:
            self._given.clear()
            await self._given.wait()
        self._taken += size

    def give(self, size: int) -> None:
        self._taken -= size
        self._given.set()


_Conversation = asyncio.Queue[_Waiting | None]  # None is its end


class _Import:
    """Creates sessions, several at a time, and sends the messages of each in order."""

    def __init__(self, service: SessionService, ids: Ids, total: int | None, as_json: bool) -> None:
        self.failed = 0
        self.is_complete = False
        self._service = service
        self._ids = ids
        self._total = total
        self._as_json = as_json
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._room = _Room()
        self._last: asyncio.Task[None] | None = None
        self._read = self._earlier = self._imported = self._messages = 0

    async def run(self, lines: AsyncIterator[bytes], bar: Bar) -> None:
        """Import all sessions that are not done; the first error that is no refusal ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                conversation: _Conversation | None = None
                async for line in lines:
                    part = _decode(line)
                    if part.message and conversation:
                        await self._room.take(len(line))
                        conversation.put_nowait(_Waiting(part.message, len(line)))
                    elif part.session or part.end:
                        if conversation:
                            conversation.put_nowait(None)
                        conversation = None
                        if part.session:
                            conversation = await self._begin(part.session, tasks)
                        self.is_complete = bool(part.end)
                        bar.update(self._read, self._total)
                if conversation and self._last:  # the export is cut off, perhaps within it
                    self._last.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def report(self) -> None:
        """Print the counts to standard error."""
        text = f"{number_of(self._imported, 'session')}"
        text += f" with {number_of(self._messages, 'message')} imported"
        if self._earlier:
            text += f"; {self._earlier:,} before"
        if self.failed:
            text += f"; {self.failed:,} {'was' if self.failed == 1 else 'were'} refused"
        if lacking := self._ids.incomplete:
            text += f"; {lacking:,} {'lacks' if lacking == 1 else 'lack'} messages"
        if not self.is_complete:
            text += "; the export is cut off"
        sys.stderr.write(f"{text}\n")

    async def _begin(
        self, session: SourceSession, tasks: asyncio.TaskGroup
    ) -> _Conversation | None:
        """Begin a session, once there is a place, and return the queue for its messages."""
        n = self._read
        self._read += 1
        if self._ids.is_done(n, session.session_id):
            self._earlier += 1
            return None
        await self._free.acquire()
        conversation: _Conversation = asyncio.Queue()
        self._last = tasks.create_task(self._import(n, session, conversation))
        return conversation

    async def _import(self, n: int, session: SourceSession, conversation: _Conversation) -> None:
        # A service repeats its refusal of a key, so a session that was refused gets another one.
        key = f"{n}/{session.session_id}/{self._ids.failures(n)}"
        result = self._ids.begun.get(n) or Result(n, session.session_id)
        sent, result.sent = result.sent or 0, UNSET
        index = 0
        try:
            if not result.new:
                await self._create(session, key, result)
            while waiting := await conversation.get():
                self._room.give(waiting.size)
                if result.new and index >= sent:
                    await self._send(waiting.message, f"{key}/{index}", result, index)
                index += 1
        except BaseException:
            if result.new:
                result.sent = max(sent, index)
                self._ids.add(result)
            raise
        self._finish_session(result)

    async def _create(self, session: SourceSession, key: str, result: Result) -> None:
        try:
            created = await patiently(
                lambda: self._service.sessions.create(
                    session.user_id,
                    session.agent_id,
                    metadata=session.metadata,
                    timeout_config=session.timeout_config,
                    idempotency_key=self._key(key),
                )
            )
        except _REFUSALS as error:
            result.error = str(error)
        else:
            result.new = created.session_id

    async def _send(self, message: SourceMessage, key: str, result: Result, index: int) -> None:
        try:
            await patiently(
                lambda: self._service.messages.send(
                    str(result.new),
                    message.content,
                    author_id=message.author_id,
                    metadata=message.metadata,
                    attachments=message.attachments or None,
                    idempotency_key=self._key(key),
                )
            )
        except (SessionNotFound, SessionExpired) as error:  # it can be imported anew
            result.error = str(error)
            result.new = UNSET
        except Forbidden:  # the scope messages:agent is missing, and all replies would be lost
            raise
        except _REFUSALS as error:
            result.error = f"message {index}: {error}"
            self._print_error(result)
        else:
            self._messages += 1

    def _key(self, name: str) -> str:
        return str(uuid.uuid5(self._ids.import_id, name))

    def _finish_session(self, result: Result) -> None:
        self._ids.add(result)
        if result.new:
            self._imported += 1
        else:
            self.failed += 1
            self._print_error(result)
        try:
            if self._as_json:
                print_json_line(result)
            elif result.new:
                sys.stdout.write(f"{printable(result.old)} {result.new}\n")
                sys.stdout.flush()
        except BrokenPipeError:
            discard_output()  # the import goes on, and the file has the ids
        self._free.release()

    def _print_error(self, result: Result) -> None:
        sys.stderr.write(f"{printable(f'{result.old}: {result.error}')}\n")


def _decode(line: bytes) -> export_format.Line:
    try:
        return export_format.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"a line of the export cannot be read: {error}: {line[:80]!r}") from None
