"""Listings: pages of the live sessions, in an order that never changes.

That is by shard, then by member of the listing (lua/listing.lua): by user, agent and id, or for one
agent's by id. So a session that lives throughout a paging is met exactly once.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

from session_service.domain.errors import ValidationFailed
from session_service.domain.ids import SHARDS, shard_of_session, shard_of_user
from session_service.domain.sessions import Session, SessionPage
from session_service.store import scripts
from session_service.store.counts import Counts
from session_service.store.keys import Keys
from session_service.store.pipeline import Arguments, Pipeline
from session_service.store.quarantine import Quarantine
from session_service.store.records import unpack_session
from session_service.store.shards import ShardGroups


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

    def position_after(self, session: Session) -> str:
        """Write a session's member of the listing for the outside."""
        user = f"u{session.user_id}:" if self.start.startswith("u") else "a"
        member = f"{user}{session.agent_id}:{session.id}"
        return base64.urlsafe_b64encode(member.encode()).decode().rstrip("=")

    def member_at(self, position: str | None) -> str:
        """Return the member after which a page starts, or an empty string for the first page.

        Raises ValidationFailed where the position is not one of this selection.
        """
        if position is None:
            return ""
        try:
            member = base64.b64decode(
                position + "=" * (-len(position) % 4), b"-_", validate=True
            ).decode()
        except (binascii.Error, UnicodeError, ValueError):
            member = ""
        if shard_of_session(member[-36:]) is None or not member.startswith(self.start):
            raise ValidationFailed(
                "cursor", "must be the nextCursor of an earlier page of the same listing"
            )
        return member


class Listing:
    """Pages of the live sessions. Raises StoreUnavailable.

    A shard that cannot be read is left out.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        keys: Keys,
        counts: Counts,
        retention_ms: bytes,
        quarantine: Quarantine,
    ) -> None:
        self._groups = ShardGroups(pipeline, keys, scripts.LIST, quarantine)
        self._counts = counts
        self._retention_ms = retention_ms

    async def page(self, selected: Selection, limit: int, position: str | None) -> SessionPage:
        """Read a page; ``position`` is an earlier page's ``next_position``.

        Raises ValidationFailed for any other text.
        """
        after = selected.member_at(position)
        of = self._of_one_shard if len(selected.shards) == 1 else self._of_all_shards
        found, total = await of(selected, after, limit)
        page = found[:limit]
        return SessionPage(
            sessions=page,
            total=total,
            counts=await self._counts.recent(),
            next_position=selected.position_after(page[-1]) if len(found) > limit else None,
        )

    async def _of_one_shard(
        self, selected: Selection, after: str, limit: int
    ) -> tuple[list[Session], int]:
        """Read a page, and count only where it is not all there is."""
        found = await self._read(selected.shards, selected.start, after, limit + 1)
        if not after and len(found) <= limit:
            return found, len(found)
        counted, _ = await self._counts.count(*selected)
        return found, counted.matching

    async def _of_all_shards(
        self, selected: Selection, after: str, limit: int
    ) -> tuple[list[Session], int]:
        """Count, then read of as many shards as fill the page."""
        start, at_shard = selected.start, after[-36:-34]
        counted, matching = await self._counts.count(start="" if selected.is_all else start)
        ahead = [s for s in selected.shards if s >= at_shard and matching[s] > 0]
        found: list[Session] = []
        while ahead and len(found) <= limit:
            chosen, expected = [], 0
            while ahead and expected <= limit - len(found):
                shard = ahead.pop(0)
                chosen.append(shard)
                expected += 0 if shard == at_shard else matching[shard]  # it may be used up
            found += await self._read(chosen, start, after, limit + 1 - len(found))
        return found, counted.matching

    async def _read(
        self, shards: Sequence[str], start: str, after: str, count: int
    ) -> list[Session]:
        """Read so many sessions of each shard, in the one of ``after`` those that follow it."""
        at_shard = after[-36:-34]

        def arguments(shards: Sequence[str]) -> Arguments:
            return (self._retention_ms, "", start, after if shards[0] == at_shard else "", count)

        replies = await self._groups.run(arguments, _sessions, shards)
        return [session for sessions in replies for session in sessions]


def _sessions(_: Sequence[str], reply: Any) -> list[Session]:
    """Return the sessions of a shard (lua/list.lua)."""
    now, *pairs = reply
    return [
        unpack_session(session_id.decode(), record, now)
        for session_id, record in zip(pairs[::2], pairs[1::2], strict=True)
    ]
