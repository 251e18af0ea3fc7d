"""Lists live sessions in pages, in an order that never changes.

The order is by shard, then by member of the listing (lua/listing.lua): by user, and then the newest
first, or in a listing of one agent by user, too. So a client that reads all pages sees every
session that is live throughout exactly once.
"""

import asyncio
from collections.abc import Sequence
from operator import itemgetter

from msgspec.structs import replace

from session_service.domain.errors import RecordUnreadable
from session_service.domain.sessions import Session, SessionPage
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import ID_LENGTH
from session_service.store.scripts.listing import LIST, ListArguments, Listed
from session_service.store.sessions.activity import AGE_BYTES, ActivityOrder
from session_service.store.sessions.counts import SessionCounter
from session_service.store.sessions.paging import PageInProgress, Selection, unpack_listed
from session_service.store.sessions.repairs import Verification
from session_service.store.sessions.totals import Totals
from session_service.store.sessions.unreadable import UnreadableSessions
from session_service.store.shards import ShardGroups

_MAX_SHARDS = 32  # listed by one call, if the store allows several in one
_FIRST_STEP = 100  # sessions in the first round trip, as their sizes are unknown; at most 1.1 MB


def _shard_of(member: bytes) -> str:
    """Return the shard of a member's session, e.g. ``3f``, or "" for no member."""
    return member[-ID_LENGTH:][:1].hex()


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
        self._groups = ShardGroups(executor, keys, LIST, quarantine, together=_MAX_SHARDS)
        self._counter = counter
        self._totals = Totals(executor, keys, quarantine, verification)
        self._unreadable = unreadable
        self._activity = ActivityOrder(executor, keys, quarantine=quarantine, unreadable=unreadable)

    async def page(self, selected: Selection, limit: int, cursor: str | None) -> SessionPage:
        """Read a page; ``cursor`` is the ``next_cursor`` of the page before, if there is one.

        Raises ValidationFailed for any other text.
        """
        after = selected.position(cursor)
        page = PageInProgress(limit)
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
        """Read a page of a user's newest sessions, those that were active last first.

        ``cursor`` is as for ``page``. A session that becomes active while pages are read moves to
        the start, so it may be on none of the later pages.
        """
        after = selected.position(cursor, before_member=AGE_BYTES)
        newest = await self._activity.newest(selected)
        page = PageInProgress(limit)
        following = [position for position in newest.positions if position > after]
        last = await self._activity.fill(page, selected, following)
        total = len(newest.positions)
        if not newest.are_all:
            total = sum((await self._totals.count(*selected)).values())
        return SessionPage(
            sessions=page.sessions,
            total=total,
            counts=await self._counter.recent(),
            next_cursor=selected.cursor(last) if page.has_more else None,
            is_truncated=total > len(newest.positions),
        )

    async def _of_one_shard(self, page: PageInProgress, selected: Selection, after: bytes) -> int:
        """Fill a page; return how many sessions match, counted unless the page has them all."""
        if not await self._read(page, selected.shards, selected.prefix, after):
            raise RecordUnreadable("the listing of a shard cannot be read")
        if not after and not page.has_more:
            return len(page.sessions)
        return sum((await self._totals.count(*selected)).values())

    async def _of_all_shards(self, page: PageInProgress, selected: Selection, after: bytes) -> int:
        """Fill a page while the shards are counted; return how many sessions match.

        Each round trip reads twice as many sessions as the one before: the sizes of their records
        are not known, and a page of large ones is full long before its limit.
        """
        prefix, at_shard = selected.prefix, _shard_of(after)
        ahead = [shard for shard in selected.shards if shard >= at_shard]
        begun = self._likely_shards(page, selected, ahead)
        _, matching = await asyncio.gather(
            self._read(page, begun, prefix, after), self._totals.count(*selected)
        )
        ahead = [shard for shard in ahead[len(begun) :] if matching.get(shard)]
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

    def _likely_shards(
        self, page: PageInProgress, selected: Selection, ahead: Sequence[str]
    ) -> Sequence[str]:
        """Return the first shards that probably fill a page or the first step, or none.

        There are none if the sizes of shards are not known, or one call cannot read as many shards.
        """
        known = self._counter.known_sizes() if selected.is_all else {}
        expected = 0
        for n, shard in enumerate(ahead[:_MAX_SHARDS] if known else (), 1):
            expected += known[shard].active
            if expected >= min(page.missing, _FIRST_STEP):
                return ahead[:n]
        return ()

    async def _read(
        self, page: PageInProgress, shards: Sequence[str], prefix: bytes, after: bytes
    ) -> bool:
        """Add the sessions of shards to a page; of the shard of ``after`` only those that follow.

        Return whether any of the shards could be read.
        """
        at_shard = _shard_of(after)

        def arguments(shards: Sequence[str]) -> ListArguments:
            member = after if shards[0] == at_shard else b""
            return ListArguments(
                "".join(shards), prefix, member, limit=page.missing, max_bytes=page.space
            )

        replies = await self._groups.run(arguments, self._sessions, shards)
        for _, found in sorted(replies, key=itemgetter(0)):
            for session, size in found:
                page.add(session, size)
        return bool(replies)

    def _sessions(
        self, shards: Sequence[str], listed: Listed
    ) -> tuple[str, list[tuple[Session, int]]]:
        """Return the first of the shards, and the sessions with the sizes of their records."""
        return shards[0], unpack_listed(listed, self._unreadable)
