"""Lists a user's newest sessions by their last activity, in pages.

The store has no index of activities: every heartbeat would have to write it. So each page first
reads when the newest sessions were active last, in parts that take the store a millisecond, and
then the sessions of the page.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.errors import RecordUnreadable
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import ID_LENGTH, pack_id, unpack_id
from session_service.store.scripts.listing import (
    ACTIVITY,
    LIST_THESE,
    ActivityArguments,
    ListTheseArguments,
)
from session_service.store.sessions.merging import age_and_id, batch_size, take_merged
from session_service.store.sessions.paging import (
    PageInProgress,
    Place,
    Selection,
    unpack_listed,
)
from session_service.store.sessions.unreadable import UnreadableSessions
from session_service.store.shards import ShardGroups

MOST = 1000  # sessions that are sorted (contract, "List")
AGE_BYTES = 6
_LAST_AGE = 2**48 - 1
_STEP = 250  # sessions that one call reads: about 1 ms of the store
_STEP_BYTES = PAGE_BYTES // 4  # of records that one call reads, unless they are returned


Activity = tuple[bytes, int]  # a member of the listing, and the last activity (epoch ms)


class Newest(NamedTuple):
    """The newest live sessions of a selection, those that were active last first.

    A position is the inverted time of the last activity, as 6 bytes, and the member of the listing.
    Of sessions that were active in the same millisecond the newest comes first.
    """

    positions: list[bytes]  # at most MOST
    are_all: bool  # False if there may be more sessions

    def after(self, position: bytes) -> list[bytes]:
        """Return the positions after one, or all after b""."""
        return [each for each in self.positions if _order(each) > _order(position)]


def _order(position: bytes) -> bytes:
    return position[:AGE_BYTES] + age_and_id(position[AGE_BYTES:])


class ActivityOrder:
    """Reads the sessions of a user in the order of their last activity.

    Raises StoreUnavailable, and RecordUnreadable if the user's shard cannot be read.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        *,
        quarantine: Quarantine,
        unreadable: UnreadableSessions,
    ) -> None:
        self._activities = ShardGroups(executor, keys, ACTIVITY, quarantine)
        self._sessions = ShardGroups(executor, keys, LIST_THESE, quarantine)
        self._unreadable = unreadable

    async def newest(self, selected: Selection) -> Newest:
        """Return the positions of the newest sessions, sorted."""
        positions: list[bytes] = []

        def take(session: Activity) -> bool:
            member, last_activity = session
            positions.append(_age(last_activity) + member)
            return len(positions) < MOST

        count = min(_STEP, batch_size(MOST, len(selected.prefixes)))
        reads = [self._reader_of(place, count) for place in selected.places]
        await take_merged(reads, lambda session: age_and_id(session[0]), take)
        return Newest(sorted(positions, key=_order), are_all=len(positions) < MOST)

    def _reader_of(self, place: Place, count: int) -> Callable[[], Awaitable[list[Activity]]]:
        """Return a function that reads the next sessions of a listing, the newest first."""
        after: bytes | None = b""

        async def read() -> list[Activity]:
            nonlocal after
            while after is not None:
                arguments = ActivityArguments(place.prefix, after, count, _STEP_BYTES)
                replies = await self._activities.run(arguments, lambda _, x: x, (place.shard,))
                if not replies:
                    raise RecordUnreadable("the listing of a shard cannot be read")
                (found,) = replies
                for session_id in found.unreadable:
                    self._unreadable.report(unpack_id(session_id))
                after = found.after or None
                if found.sessions:
                    return found.sessions
            return []

        return read

    async def fill(
        self, page: PageInProgress, selected: Selection, positions: list[bytes]
    ) -> bytes:
        """Add the sessions at these positions until the page is full.

        Return the position of the last one. Sessions that are over meanwhile are left out.
        """
        by_id = {position[-ID_LENGTH:]: position for position in positions}
        ids = list(by_id)
        while ids and not page.has_more:
            count = min(_STEP, page.missing)
            chosen, ids = ids[:count], ids[count:]
            arguments = ListTheseArguments(page.space, tuple(chosen))
            replies = await self._sessions.run(
                arguments, lambda _, x: unpack_listed(x, self._unreadable), selected.shards
            )
            if not replies:
                raise RecordUnreadable("the sessions of a shard cannot be read")
            for session, size in replies[0]:
                page.add(session, size)
        return by_id[pack_id(page.sessions[-1].id)] if page.sessions else b""


def _age(last_activity: int) -> bytes:
    return (_LAST_AGE - last_activity).to_bytes(AGE_BYTES, "big")
