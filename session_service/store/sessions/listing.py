"""Listings: pages of the live sessions, in an order that never changes.

That is by shard, then by member of the listing (lua/listing.lua): by user, agent and id, or for one
agent's by id. So a session that lives throughout a paging is met exactly once.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.errors import RecordUnreadable, ValidationFailed
from session_service.domain.ids import SHARDS, shard_of_session, shard_of_user
from session_service.domain.sessions import Session, SessionPage
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import unpack_session
from session_service.store.scripts.listing import LIST, ListArguments, Listed
from session_service.store.sessions.counts import Counts
from session_service.store.sessions.unreadable import Unreadable
from session_service.store.shards import ShardGroups

_FIRST_STEP = 100  # sessions read in one round trip before their sizes are known; 1.1 MB at most


class Selection(NamedTuple):
    """The shards that some sessions are in, and how their members of the listing start."""

    shards: Sequence[str]
    start: str

    @classmethod
    def of(cls, user_id: str | None, agent_id: str | None) -> "Selection":
        """Select the sessions of a user, of an agent, of both, or with neither all."""
        if user_id:
            start = f"u{user_id}:{agent_id}:" if agent_id else f"u{user_id}:"
            return cls((shard_of_user(user_id),), start)
        return cls(SHARDS, f"a{agent_id}:" if agent_id else "u")

    @property
    def is_all(self) -> bool:
        """Whether every session is selected."""
        return self.start == "u"

    @property
    def _kind(self) -> str:
        """Which listing a position belongs to: how many ids its members start with, and whose."""
        return f"{self.start[0]}{self.start.count(':')}"

    def position_after(self, session: Session) -> str:
        """Write a session's member of the listing for the outside, after the kind of listing."""
        user = f"u{session.user_id}:" if self.start.startswith("u") else "a"
        position = f"{self._kind}{user}{session.agent_id}:{session.id}"
        return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")

    def member_at(self, position: str | None) -> str:
        """Return the member after which a page starts, or an empty string for the first page.

        Raises ValidationFailed if the position is not one of this selection: ``u1`` and a member
        for the sessions of a user, ``u0`` for all, ``u2`` for those with an agent, ``a1``.
        """
        if position is None:
            return ""
        try:
            text = base64.b64decode(
                position + "=" * (-len(position) % 4), b"-_", validate=True
            ).decode()
        except (binascii.Error, UnicodeError, ValueError):
            text = ""
        kind, member = text[:2], text[2:]
        is_one = kind == self._kind and member.startswith(self.start)
        if not is_one or shard_of_session(member[-36:]) is None:
            raise ValidationFailed(
                "cursor", "must be the nextCursor of an earlier page of the same listing"
            )
        return member


class _Page:
    """A page that fills up. It ends at ``limit`` or PAGE_BYTES, and has at least one session."""

    def __init__(self, limit: int) -> None:
        self.sessions: list[Session] = []
        self.has_more = False
        self.space = PAGE_BYTES
        self._limit = limit

    @property
    def wanted(self) -> int:
        """How many sessions to read on: one more than fit shows that there are more."""
        return self._limit + 1 - len(self.sessions)

    def add(self, session: Session, size: int) -> None:
        """Add the session that comes next, unless the page is full."""
        sessions = self.sessions
        if self.has_more or len(sessions) == self._limit or (sessions and size > self.space):
            self.has_more = True
        else:
            sessions.append(session)
            self.space -= size


class Listing:
    """Pages of the live sessions. Raises StoreUnavailable.

    A shard that cannot be read is left out of a listing of all; a user's, who has no other, raises
    RecordUnreadable.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        counts: Counts,
        *,
        quarantine: Quarantine,
        unreadable: Unreadable,
    ) -> None:
        self._groups = ShardGroups(executor, keys, LIST, quarantine)
        self._counts = counts
        self._unreadable = unreadable

    async def page(self, selected: Selection, limit: int, position: str | None) -> SessionPage:
        """Read a page; ``position`` is an earlier page's ``next_position``.

        Raises ValidationFailed for any other text.
        """
        after = selected.member_at(position)
        page = _Page(limit)
        fill = self._of_one_shard if len(selected.shards) == 1 else self._of_all_shards
        total = await fill(page, selected, after)
        return SessionPage(
            sessions=page.sessions,
            total=total,
            counts=await self._counts.recent(),
            next_position=selected.position_after(page.sessions[-1]) if page.has_more else None,
        )

    async def _of_one_shard(self, page: _Page, selected: Selection, after: str) -> int:
        """Fill a page; return how many match, which are counted only if it does not have all."""
        if not await self._read(page, selected.shards, selected.start, after):
            raise RecordUnreadable("the listing of a shard cannot be read")
        if not after and not page.has_more:
            return len(page.sessions)
        counted, _ = await self._counts.count(*selected)
        return counted.matching

    async def _of_all_shards(self, page: _Page, selected: Selection, after: str) -> int:
        """Count, then read as many shards as fill the page; return how many match.

        Each round reads twice as many sessions as the one before: their sizes are not known, and
        a page of large ones is full long before its limit.
        """
        start, at_shard = selected.start, after[-36:-34]
        counted, matching = await self._counts.count(start="" if selected.is_all else start)
        ahead = [s for s in selected.shards if s >= at_shard and matching[s] > 0]
        step = _FIRST_STEP
        while ahead and not page.has_more:
            chosen, expected = [], 0
            while ahead and expected < min(page.wanted, step):
                shard = ahead.pop(0)
                chosen.append(shard)
                expected += 0 if shard == at_shard else matching[shard]  # it may be used up
            await self._read(page, chosen, start, after)
            step *= 2
        return counted.matching

    async def _read(self, page: _Page, shards: Sequence[str], start: str, after: str) -> bool:
        """Add the sessions of shards to a page, of the shard of ``after`` those that follow it.

        Return whether any of the shards could be read.
        """
        at_shard = after[-36:-34]

        def arguments(shards: Sequence[str]) -> ListArguments:
            member = after if shards[0] == at_shard else ""
            return ListArguments(start, member, limit=page.wanted, max_bytes=page.space)

        replies = await self._groups.run(arguments, self._sessions, shards)
        for found in replies:
            for session, size in found:
                page.add(session, size)
        return bool(replies)

    def _sessions(self, _: Sequence[str], listed: Listed) -> list[tuple[Session, int]]:
        """Return the sessions of a shard and the sizes of their records."""
        for session_id in listed.unreadable:
            self._unreadable.met(session_id.decode())
        return [
            (unpack_session(session_id.decode(), record, listed.now), len(record))
            for session_id, record in listed.records
        ]
