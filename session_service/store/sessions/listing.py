"""Lists live sessions in pages, in an order that never changes.

The order is by shard, then by member of the listing (lua/listing.lua): by user, and then the newest
first, or in a listing of one agent by user, too. A listing of several agents goes through one agent
after the other; of the sessions of one user with them, the newest come first. So a client that
reads all pages sees every session that is live throughout exactly once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from operator import itemgetter

from msgspec.structs import replace

from session_service.domain.errors import RecordUnreadable
from session_service.domain.sessions import Session, SessionCounts, SessionPage
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import listing_member
from session_service.store.scripts.listing import LIST, ListArguments, Listed
from session_service.store.sessions.activity import AGE_BYTES, ActivityOrder
from session_service.store.sessions.counts import SessionCounter
from session_service.store.sessions.merging import age_and_id, batch_size, take_merged
from session_service.store.sessions.paging import (
    PageInProgress,
    Place,
    Selection,
    unpack_listed,
)
from session_service.store.sessions.repairs import Verification
from session_service.store.sessions.totals import Totals
from session_service.store.sessions.unreadable import UnreadableSessions
from session_service.store.shards import ShardGroups

_MAX_SHARDS = 32  # listed by one call, if the store allows several in one
_FIRST_STEP = 100  # sessions in the first round trip, as their sizes are unknown; at most 1.1 MB

_Sized = tuple[Session, int]  # a session and the size of its record
_Found = tuple[str, list[_Sized]]  # the first shard of a call, and the sessions of all of them


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

    async def page(
        self, selected: Selection, visible: Selection, limit: int, cursor: str | None
    ) -> SessionPage:
        """Read a page; ``cursor`` is the ``next_cursor`` of the page before, if there is one.

        The counts of the page are of the sessions in ``visible``. Raises ValidationFailed for any
        other text.
        """
        after = selected.position(cursor)
        page = PageInProgress(limit)
        fill = self._of_one_shard if len(selected.shards) == 1 else self._of_all_shards
        total = await fill(page, selected, after)
        return SessionPage(
            sessions=page.sessions,
            total=total,
            counts=await self._counts(selected, visible, total),
            next_cursor=selected.cursor_after(page.sessions[-1]) if page.has_more else None,
        )

    async def page_by_activity(
        self, selected: Selection, visible: Selection, limit: int, cursor: str | None
    ) -> SessionPage:
        """Read a page of a user's newest sessions, those that were active last first.

        The arguments are as for ``page``. A session that becomes active while pages are read moves
        to the start, so it may be on none of the later pages.
        """
        after = selected.position(cursor, before_member=AGE_BYTES)
        newest = await self._activity.newest(selected)
        page = PageInProgress(limit)
        last = await self._activity.fill(page, selected, newest.after(after))
        total = len(newest.positions)
        if not newest.are_all:
            total = await self._totals.sum(selected)
        return SessionPage(
            sessions=page.sessions,
            total=total,
            counts=await self._counts(selected, visible, total),
            next_cursor=selected.cursor(last) if page.has_more else None,
            is_truncated=total > len(newest.positions),
        )

    async def count(self, visible: Selection) -> SessionCounts:
        """Return how many sessions are active; the others are counted for all sessions only."""
        return SessionCounts(active=await self._totals.sum(visible))

    async def _counts(self, selected: Selection, visible: Selection, total: int) -> SessionCounts:
        """Return the counts of all sessions, or of the visible ones; ``total`` are selected."""
        if visible.is_all:
            counts = await self._counter.recent()
            return replace(counts, active=total) if selected.is_all else counts
        return SessionCounts(active=total) if selected == visible else await self.count(visible)

    async def _of_one_shard(self, page: PageInProgress, selected: Selection, after: bytes) -> int:
        """Fill a page; return how many sessions match, counted unless the page has them all."""
        if len(selected.prefixes) > 1:
            await self._merge(page, selected, after)
        elif not await self._read(page, selected, selected.places, after):
            raise _unreadable_listing()
        if not after and not page.has_more:
            return len(page.sessions)
        return await self._totals.sum(selected)

    async def _of_all_shards(self, page: PageInProgress, selected: Selection, after: bytes) -> int:
        """Fill a page while the shards are counted; return how many sessions match.

        Each round trip reads twice as many sessions as the one before: the sizes of their records
        are not known, and a page of large ones is full long before its limit.
        """
        at = selected.place_of(after)
        ahead = [place for place in selected.places if at is None or place >= at]
        begun = self._likely_places(page, selected, ahead)
        _, matching = await asyncio.gather(
            self._read(page, selected, begun, after), self._totals.count(selected)
        )
        ahead = [place for place in ahead[len(begun) :] if matching.get(place)]
        step = _FIRST_STEP
        while ahead and not page.has_more:
            chosen, expected = [], 0
            while ahead and expected < min(page.missing, step):
                place = ahead.pop(0)
                chosen.append(place)
                expected += 0 if place == at else matching[place]  # may have none left
            await self._read(page, selected, chosen, after)
            step *= 2
        return sum(matching.values())

    def _likely_places(
        self, page: PageInProgress, selected: Selection, ahead: Sequence[Place]
    ) -> Sequence[Place]:
        """Return the first places that probably fill a page or the first step, or none.

        There are none if the sizes of shards are not known, or one call cannot read as many shards.
        """
        known = self._counter.known_sizes() if selected.is_all else {}
        expected = 0
        for n, place in enumerate(ahead[:_MAX_SHARDS] if known else (), 1):
            expected += known[place.shard].active
            if expected >= min(page.missing, _FIRST_STEP):
                return ahead[:n]
        return ()

    async def _read(
        self, page: PageInProgress, selected: Selection, places: Sequence[Place], after: bytes
    ) -> bool:
        """Add the sessions of places to a page; of the place of ``after`` only those that follow.

        Return whether any of the shards could be read.
        """
        at = selected.place_of(after)

        async def read(prefix: bytes, shards: list[str]) -> list[_Found]:
            def arguments(shards: Sequence[str]) -> ListArguments:
                member = after if (prefix, shards[0]) == at else b""
                return ListArguments(
                    "".join(shards), prefix, member, limit=page.missing, max_bytes=page.space
                )

            return sorted(
                await self._groups.run(arguments, self._sessions, shards), key=itemgetter(0)
            )

        by_prefix = groupby(places, key=itemgetter(0))
        parts = await asyncio.gather(
            *(read(prefix, [shard for _, shard in each]) for prefix, each in by_prefix)
        )
        for found in parts:
            for _, sessions in found:
                for session, size in sessions:
                    page.add(session, size)
        return any(parts)

    async def _merge(self, page: PageInProgress, selected: Selection, after: bytes) -> None:
        """Add the sessions of a user with several agents to a page, the newest first."""
        parts = len(selected.prefixes)
        count, max_bytes = batch_size(page.missing, parts), 2 * page.space // parts

        def reader_of(place: Place) -> Callable[[], Awaitable[list[_Sized]]]:
            member = place.prefix + age_and_id(after) if after else b""
            is_at_end = False

            async def read() -> list[_Sized]:
                nonlocal member, is_at_end
                if is_at_end:
                    return []
                arguments = ListArguments(place.shard, place.prefix, member, count, max_bytes)
                replies = await self._groups.run(arguments, self._sessions, (place.shard,))
                if not replies:
                    raise _unreadable_listing()
                ((_, found),) = replies
                is_at_end = len(found) < count and sum(size for _, size in found) <= max_bytes
                if found:
                    member = listing_member(b"a", found[-1][0])
                return found

            return read

        def take(found: _Sized) -> bool:
            page.add(*found)
            return not page.has_more

        await take_merged(
            [reader_of(place) for place in selected.places],
            lambda found: age_and_id(listing_member(b"a", found[0])),
            take,
        )

    def _sessions(self, shards: Sequence[str], listed: Listed) -> _Found:
        """Return the first of the shards, and the sessions with the sizes of their records."""
        return shards[0], unpack_listed(listed, self._unreadable)


def _unreadable_listing() -> RecordUnreadable:
    return RecordUnreadable("the listing of a shard cannot be read")
