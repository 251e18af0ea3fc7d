"""Lists live sessions in pages, in an order that never changes.

The order is by shard, then by member of the listing (lua/listing.lua): by user, and then the newest
first, or in a listing of one agent by user, too. So a client that reads all pages sees every
session that is live throughout exactly once.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.errors import RecordUnreadable, ValidationFailed
from session_service.domain.ids import SHARDS, shard_of_user
from session_service.domain.sessions import Session, SessionPage
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import (
    ID_LENGTH,
    MEMBER_LENGTHS,
    listing_member,
    pack_id,
    unpack_id,
    unpack_session,
)
from session_service.store.scripts.listing import (
    LIST,
    LIST_BY_ACTIVITY,
    ListArguments,
    ListByActivityArguments,
    Listed,
)
from session_service.store.sessions.counts import SessionCounter
from session_service.store.sessions.repairs import Verification
from session_service.store.sessions.totals import Totals
from session_service.store.sessions.unreadable import UnreadableSessions
from session_service.store.shards import ShardGroups

_SORTED = 1000  # of a user's sessions, by activity; contract, "List"
_FIRST_STEP = 100  # sessions in the first round trip, as their sizes are unknown; at most 1.1 MB


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
        """Return the cursor of the page after a session: the kind of listing and its member."""
        return _encoded(self._kind + listing_member(self.prefix[:1], session))

    def member_before(self, cursor: str | None) -> bytes:
        """Return the member after which a page starts, or nothing for the first page.

        A cursor is the base64 of a kind and a member, such as ``1`` and ``u<user><age><session>``
        (keys.py). Raises ValidationFailed if it is not one of this selection.
        """
        if cursor is None:
            return b""
        kind, member = _decoded(cursor)
        is_one = kind == self._kind and member.startswith(self.prefix)
        if not is_one or len(member) != MEMBER_LENGTHS[member[:1]]:
            raise _foreign_cursor()
        return member

    def active_cursor_after(self, session: Session) -> str:
        """Return the cursor of the page after a session in a listing by activity."""
        position = session.last_activity.to_bytes(6, "big") + pack_id(session.id)
        return _encoded(b"o" + self.prefix + position)

    def position_before(self, cursor: str | None) -> tuple[int, bytes] | tuple[None, None]:
        """Return the last activity and the id after which a page by activity starts, if any.

        A cursor is the base64 of ``o``, the prefix, the activity in epoch ms, as 6 bytes, and the
        id. Raises ValidationFailed if it is not one of this selection.
        """
        if cursor is None:
            return None, None
        kind, text = _decoded(cursor)
        position = text.removeprefix(self.prefix)
        is_one = kind == b"o" and text.startswith(self.prefix)
        if not is_one or len(position) != 6 + ID_LENGTH:
            raise _foreign_cursor()
        return int.from_bytes(position[:6], "big"), position[6:]


def _encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _decoded(cursor: str) -> tuple[bytes, bytes]:
    """Return the first byte of a cursor and the rest, or nothing if it is not base64."""
    try:
        found = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        found = b""
    return found[:1], found[1:]


def _foreign_cursor() -> ValidationFailed:
    return ValidationFailed(
        "cursor", "must be the nextCursor of an earlier page of the same listing"
    )


def _shard_of(member: bytes) -> str:
    """Return the shard of a member's session, e.g. ``3f``, or "" for no member."""
    return member[-ID_LENGTH:][:1].hex()


class _Page:
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


class Listing:
    """Reads pages of live sessions. Raises StoreUnavailable.

    A listing over all shards skips a shard that cannot be read. The listing of a user, whose
    sessions are all in one shard, raises RecordUnreadable.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        counter: SessionCounter,
        *,
        quarantine: Quarantine,
        unreadable: UnreadableSessions,
        verification: Verification,
    ) -> None:
        self._executor = executor
        self._keys = keys
        self._groups = ShardGroups(executor, keys, LIST, quarantine)
        self._counter = counter
        self._totals = Totals(executor, keys, quarantine, verification)
        self._unreadable = unreadable

    async def page(self, selected: Selection, limit: int, cursor: str | None) -> SessionPage:
        """Read a page; ``cursor`` is the ``next_cursor`` of the page before, if there is one.

        Raises ValidationFailed for any other text.
        """
        after = selected.member_before(cursor)
        page = _Page(limit)
        fill = self._of_one_shard if len(selected.shards) == 1 else self._of_all_shards
        total = await fill(page, selected, after)
        counts = await self._counter.recent()
        if selected.is_all:
            counts = replace(counts, active=total)
        return SessionPage(
            sessions=page.sessions,
            total=total,
            counts=counts,
            next_cursor=selected.cursor_after(page.sessions[-1]) if page.has_more else None,
        )

    async def page_by_activity(
        self, selected: Selection, limit: int, cursor: str | None
    ) -> SessionPage:
        """Read a page of a user's newest 1,000 sessions by last activity (contract, "List").

        Raises ValidationFailed for a cursor of another listing.
        """
        active, session_id = selected.position_before(cursor)
        (shard,) = selected.shards
        listed = await self._executor.run(
            LIST_BY_ACTIVITY,
            self._keys.of_shard(LIST_BY_ACTIVITY.keys, shard),
            ListByActivityArguments(
                selected.prefix, _SORTED, active, session_id, limit + 1, PAGE_BYTES
            ),
        )
        page = _Page(limit)
        for session, size in self._unpacked(listed.now, listed.unreadable, listed.records):
            page.add(session, size)
        total = len(page.sessions)
        if cursor or page.has_more or listed.is_truncated:
            total = sum((await self._totals.count(*selected)).values())
        return SessionPage(
            sessions=page.sessions,
            total=total,
            counts=await self._counter.recent(),
            next_cursor=selected.active_cursor_after(page.sessions[-1]) if page.has_more else None,
            is_truncated=listed.is_truncated,
        )

    async def _of_one_shard(self, page: _Page, selected: Selection, after: bytes) -> int:
        """Fill a page; return how many sessions match, counted unless the page has them all."""
        if not await self._read(page, selected.shards, selected.prefix, after):
            raise RecordUnreadable("the listing of a shard cannot be read")
        if not after and not page.has_more:
            return len(page.sessions)
        return sum((await self._totals.count(*selected)).values())

    async def _of_all_shards(self, page: _Page, selected: Selection, after: bytes) -> int:
        """Count, then read shards until the page is full; return how many sessions match.

        Each round trip reads twice as many sessions as the one before: their sizes are not known,
        and a page of large ones is full long before its limit.
        """
        prefix, at_shard = selected.prefix, _shard_of(after)
        matching = await self._totals.count(*selected)
        ahead = [s for s in selected.shards if s >= at_shard and matching.get(s)]
        step = _FIRST_STEP
        while ahead and not page.has_more:
            chosen, expected = [], 0
            while ahead and expected < min(page.missing, step):
                shard = ahead.pop(0)
                chosen.append(shard)
                expected += 0 if shard == at_shard else matching[shard]  # may have none left
            await self._read(page, chosen, prefix, after)
            step *= 2
        return sum(matching.values())

    async def _read(self, page: _Page, shards: Sequence[str], prefix: bytes, after: bytes) -> bool:
        """Add the sessions of shards to a page; of the shard of ``after`` only those that follow.

        Return whether any of the shards could be read.
        """
        at_shard = _shard_of(after)

        def arguments(shards: Sequence[str]) -> ListArguments:
            member = after if shards[0] == at_shard else b""
            return ListArguments(prefix, member, limit=page.missing, max_bytes=page.space)

        replies = await self._groups.run(arguments, self._sessions, shards)
        for found in replies:
            for session, size in found:
                page.add(session, size)
        return bool(replies)

    def _sessions(self, _: Sequence[str], listed: Listed) -> list[tuple[Session, int]]:
        """Return the sessions of a shard and the sizes of their records."""
        return self._unpacked(listed.now, listed.unreadable, listed.records)

    def _unpacked(
        self, now: int, unreadable: list[bytes], records: list[tuple[bytes, bytes]]
    ) -> list[tuple[Session, int]]:
        for session_id in unreadable:
            self._unreadable.report(unpack_id(session_id))
        return [
            (unpack_session(unpack_id(session_id), record, now), len(record))
            for session_id, record in records
        ]
