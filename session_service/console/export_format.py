"""The format of an export: JSON lines, each an object with one member, which names its kind.

::

    {"export": {"version": 1, "id": "5b0c…", "userId": null, "agentId": null, "messages": true}}
    {"session": {"sessionId": "c573…", …}}                  as the API lists it
    {"message": {"content": "Hello", …}}                    of the session above, in order
    {"position": {"sessions": 100, …, "cursor": "dTB1…"}}   after a page: a resumed export goes on
    {"end": {"sessions": 1000, …}}                          of a complete export
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import UNSET, UnsetType

from session_service.api.sessions import TimeoutSettings

VERSION = 1

_LAST_LINE_BYTES = 4096  # of a file are enough for its line "end"


class _Part(msgspec.Struct, rename="camel"):
    """A part of a line. Unknown members are ignored."""


class Header(_Part):
    """What is exported: all sessions, or those of a user, with an agent, or both."""

    version: int
    id: str
    user_id: str | None
    agent_id: str | None
    messages: bool


class Counts(_Part):
    """The numbers of sessions and messages in the file, and of the sessions that are not."""

    sessions: int = 0
    messages: int = 0
    ended: int = 0  # while they were exported
    unreadable: int = 0


class Position(Counts):
    """The cursor of the next page of sessions, and the counts so far."""

    cursor: str | None = None


class SourceSession(_Part):
    """The members of a session that an import uses."""

    session_id: str
    user_id: str
    agent_id: str
    metadata: dict[str, Any]
    timeout_config: TimeoutSettings


class SourceMessage(_Part):
    """The members of a message that an import uses."""

    content: str
    author_id: str
    metadata: dict[str, Any] = {}
    attachments: list[dict[str, Any]] | UnsetType = UNSET


class Line(_Part):
    """A line: one of the members is set."""

    export: Header | UnsetType = UNSET
    session: SourceSession | UnsetType = UNSET
    message: SourceMessage | UnsetType = UNSET
    position: Position | UnsetType = UNSET
    end: Counts | UnsetType = UNSET


def encode(kind: str, value: Any) -> bytes:
    """Return a line, e.g. of the kind ``session``."""
    return msgspec.json.encode({kind: value}) + b"\n"


decode = msgspec.json.Decoder(Line).decode


def new_header(user_id: str | None, agent_id: str | None, *, messages: bool) -> Header:
    """Return the header of a new export."""
    return Header(VERSION, str(uuid.uuid4()), user_id, agent_id, messages)


def check_header(line: bytes) -> Header:
    """Return the header in the first line of an export; raise ValueError if it is none."""
    try:
        header = decode(line).export
    except (msgspec.MsgspecError, UnicodeDecodeError):
        header = UNSET
    if header is UNSET:
        raise ValueError("this is no export of sessions: its first line is no header")
    if header.version != VERSION:
        raise ValueError(f"the export has version {header.version}, and this is for {VERSION}")
    return header


def end_of(path: Path) -> Counts | None:
    """Return the counts in the last line of an export, or None if it is not complete."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_LINE_BYTES))
        *_, last, torn = [b"", b"", *file.read().split(b"\n")]
    if torn or not last.startswith(b'{"end":'):
        return None
    return decode(last).end or None


@contextmanager
def locked(path: Path, mode: str) -> Iterator[IO[bytes]]:
    """Open a file for this process alone; raise ValueError if another has it.

    A new one can be read by its owner only: conversations are private.
    """
    with open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path} is in use by another process") from None
        yield file


def find_last_position(file: IO[bytes], header: Header) -> Position | Counts | None:
    """Remove everything after the last position of an export, to go on there, and return that.

    Return Counts if the export is complete, and None if the file has no header yet. Raises
    ValueError if the file is no export, or one of other sessions.
    """
    file.seek(0)
    first = file.readline()
    if not first.endswith(b"\n"):
        file.truncate(0)
        file.seek(0)
        return None
    found = check_header(first)
    header.id = found.id
    if found != header:
        raise ValueError("the file was begun with other options: --user, --agent or --no-messages")
    position = b""
    keep = offset = len(first)
    for line in file:
        offset += len(line)
        if line.endswith(b"\n") and line.startswith((b'{"position":', b'{"end":')):
            position, keep = line, offset
    if position.startswith(b'{"end":'):
        return decode(position).end or None
    file.truncate(keep)
    file.seek(0, os.SEEK_END)
    return (decode(position).position or None) if position else Position()
