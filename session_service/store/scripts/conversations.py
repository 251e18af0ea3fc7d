"""Pages of conversations, and conversations that outlast their sessions."""

from typing import NamedTuple

from session_service.domain.errors import RecordUnreadable
from session_service.store.client.protocol import RawReply
from session_service.store.client.script import Arguments, Script
from session_service.store.records import refusal
from session_service.store.scripts.library import LIBRARY


class PageArguments(Arguments):
    """The part of a conversation to read (lua/page.lua)."""

    after: int | None  # epoch milliseconds; excluded
    before: int | None  # the same
    oldest_first: bool
    limit: int
    max_bytes: int


class HistoryArguments(PageArguments):
    """The part to read of the conversation of a session that is alive."""

    retention_ms: int
    session_id: bytes
    viewer: bytes | None  # as of ``records.pack_viewer``


class RetainedArguments(PageArguments):
    """The part to read of a conversation whose session is over."""

    viewer: bytes | None


class EraseArguments(Arguments):
    """The limits of the caller."""

    viewer: bytes | None


class Page(NamedTuple):
    """A part of a conversation, after the record of its session."""

    record: bytes
    more: int  # 0, 1
    messages: list[bytes]


def _page(reply: RawReply) -> Page:
    if not isinstance(reply, list):
        raise refusal(reply)
    return Page._make(reply)


HISTORY = Script(
    LIBRARY,
    "history",
    keys=("session", "messages"),
    arguments=HistoryArguments,
    parts=("clock", "lifetime", "record", "viewer", "visible", "session", "message", "page"),
    reply=_page,
    writes=False,
)


class RetainedPage(NamedTuple):
    """A part of a conversation, after its agent and user, 16 bytes each."""

    participants: bytes
    more: int  # 0, 1
    messages: list[bytes]


def _retained_page(reply: RawReply) -> RetainedPage | None:
    if isinstance(reply, bytes):
        raise RecordUnreadable
    return None if reply is None else RetainedPage._make(reply)


RETAINED = Script(
    LIBRARY,
    "retained",
    keys=("retained", "participants"),
    arguments=RetainedArguments,
    parts=("viewer", "message", "page"),
    reply=_retained_page,
    writes=False,
)

ERASE = Script(
    LIBRARY,
    "erase",
    keys=("retained", "participants"),
    arguments=EraseArguments,
    parts=("viewer",),
    reply=int,  # 1, or 0 if none is kept
)
