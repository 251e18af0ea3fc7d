"""The sessions that a listing selects, cursors, and pages that are being filled."""

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.credentials import Credential
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


class Place(NamedTuple):
    """A part of the listing of a shard: the members that start with a prefix."""

    prefix: bytes
    shard: str


class Selection(NamedTuple):
    """The shards that the sessions of a filter are in, and the prefixes of their listing members.

    The prefix is ``u`` for all sessions, ``u<user id>`` for those of a user, ``a<agent id>`` for
    those of an agent, and ``a<agent id><user id>`` for those of both. An id has 16 bytes. For a key
    that is bound to several agents there is a prefix for each of them, in order.
    """

    shards: Sequence[str]
    prefixes: tuple[bytes, ...]

    @classmethod
    def of(
        cls, user_id: str | None, agent_id: str | None, credential: Credential = Credential.OPEN
    ) -> "Selection":
        """Select the sessions of a user, of an agent, of both, or with neither all.

        Only those that exist for the credential are selected. Raises NotPermitted if it may not act
        for the user or the agent.
        """
        credential.admit(user_id=user_id, agent_id=agent_id)
        agents = [agent_id] if agent_id else sorted(credential.agents or ())
        user_id = user_id or credential.user
        starts = [b"a" + pack_id(agent) for agent in agents] or [b"u"]
        if user_id is None:
            return cls(SHARDS, tuple(starts))
        user = pack_id(user_id)
        return cls((shard_of_user(user_id),), tuple(start + user for start in starts))

    @property
    def is_all(self) -> bool:
        """Whether every session is selected."""
        return self.prefixes == (b"u",)

    @property
    def places(self) -> list[Place]:
        """The parts of listings that the sessions are in: a listing goes through them in order."""
        return [Place(prefix, shard) for prefix in self.prefixes for shard in self.shards]

    def place_of(self, member: bytes) -> Place | None:
        """Return the place of a member of one of the listings, or None for no member."""
        if not member:
            return None
        return Place(member[: len(self.prefixes[0])], member[-ID_LENGTH:][:1].hex())

    @property
    def _kind(self) -> bytes:
        """The kind of listing that a cursor is for, as a digit.

        It is the number of ids in a prefix, plus 2 if there are several prefixes.
        """
        ids = len(self.prefixes[0]) // ID_LENGTH
        return b"%d" % (ids if len(self.prefixes) == 1 else ids + 2)

    def cursor_after(self, session: Session) -> str:
        """Return the cursor of the page after a session."""
        return self.cursor(listing_member(self.prefixes[0][:1], session))

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
        is_one = kind == self._kind and member.startswith(self.prefixes)
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
