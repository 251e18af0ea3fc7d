"""The sessions that a listing selects, cursors, and pages that are being filled."""

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.errors import ValidationFailed
from session_service.domain.ids import SHARDS, shard_of_user
from session_service.domain.sessions import Session
from session_service.store.records import (
    ID_LENGTH,
    MEMBER_LENGTHS,
    listing_member,
    pack_id,
    unpack_id,
    unpack_session,
)
from session_service.store.scripts.listing import Listed
from session_service.store.sessions.unreadable import UnreadableSessions


class Selection(NamedTuple):
    """The shards that the sessions of a filter are in, and the prefix of their listing members.

    The prefix is ``u`` for all sessions, ``u<user id>`` for those of a user, ``a<agent id>`` for
    those of an agent, and ``a<agent id><user id>`` for those of both. An id has 16 bytes.
    """

    shards: Sequence[str]
    prefix: bytes

    @classmethod
    def of(cls, user_id: str | None, agent_id: str | None) -> "Selection":
        """Select the sessions of a user, of an agent, of both, or with neither all."""
        prefix = b"a" + pack_id(agent_id) if agent_id else b"u"
        if user_id:
            return cls((shard_of_user(user_id),), prefix + pack_id(user_id))
        return cls(SHARDS, prefix)

    @property
    def is_all(self) -> bool:
        """Whether every session is selected."""
        return self.prefix == b"u"

    @property
    def _kind(self) -> bytes:
        """The kind of listing that a cursor is for: the number of ids in the prefix, as a digit."""
        return b"%d" % (len(self.prefix) // ID_LENGTH)

    def cursor_after(self, session: Session) -> str:
        """Return the cursor of the page after a session."""
        return self.cursor(listing_member(self.prefix[:1], session))

    def cursor(self, position: bytes) -> str:
        """Return the cursor of a position: a member of the listing, perhaps after other bytes.

        It is the base64 of a kind and the position, such as ``1`` and ``u<user><age><session>``
        (keys.py).
        """
        return base64.urlsafe_b64encode(self._kind + position).decode().rstrip("=")

    def position(self, cursor: str | None, *, before_member: int = 0) -> bytes:
        """Return the position of a cursor, or nothing for the first page.

        It has that many bytes before the member. Raises ValidationFailed if the cursor is not one
        of this selection.
        """
        if cursor is None:
            return b""
        try:
            found = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            found = b""
        kind, position = found[:1], found[1:]
        member = position[before_member:]
        is_one = kind == self._kind and member.startswith(self.prefix)
        if not is_one or len(member) != MEMBER_LENGTHS[member[:1]]:
            raise ValidationFailed(
                "cursor", "must be the nextCursor of an earlier page of the same listing"
            )
        return position


class PageInProgress:
    """A page being filled: at most ``limit`` sessions and PAGE_BYTES, but at least one session."""

    def __init__(self, limit: int) -> None:
        self.sessions: list[Session] = []
        self.has_more = False
        self.space = PAGE_BYTES
        self._limit = limit

    @property
    def missing(self) -> int:
        """The number of sessions to read: one more than fit, to know whether there are more."""
        return self._limit + 1 - len(self.sessions)

    def add(self, session: Session, size: int) -> None:
        """Add the next session unless the page is full."""
        sessions = self.sessions
        if self.has_more or len(sessions) == self._limit or (sessions and size > self.space):
            self.has_more = True
        else:
            sessions.append(session)
            self.space -= size


def unpack_listed(listed: Listed, unreadable: UnreadableSessions) -> list[tuple[Session, int]]:
    """Return the sessions of a reply and the sizes of their records; report the unreadable ones."""
    for session_id in listed.unreadable:
        unreadable.report(unpack_id(session_id))
    return [
        (unpack_session(unpack_id(session_id), record, listed.now), len(record))
        for session_id, record in listed.records
    ]
