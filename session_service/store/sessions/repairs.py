"""Repairs the indexes of sessions, of which the store has evicted records or index keys.

A store with an evicting ``maxmemory-policy`` throws away the record of a session and leaves its
entries in the indexes, where they count. It can throw away the indexes of a shard, too. Each master
counts the keys that it has evicted. So the indexes are right if these counts are the same as before
the last verification, which looks for the record of each entry.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.domain.ids import SHARDS
from session_service.store.client.executor import ScriptExecutor, error_code
from session_service.store.client.script import NO_ARGUMENTS, A, R, Script
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.scripts.repairs import (
    CLAIM_VERIFICATION,
    CONFIRM_VERIFICATION,
    REPAIR,
    RESTORE_DEADLINES,
    RESTORE_LISTING,
    VERIFIED,
    ClaimVerificationArguments,
    ConfirmVerificationArguments,
    RepairArguments,
    RestoreDeadlinesArguments,
    RestoreListingArguments,
    Verified,
)

_MAX_MEMBERS = 300  # that one script checks: 0.5 ms of the store, or 2 if all sessions are gone
_MAX_RESTORED = 200  # sessions that one script reads: 1 ms
_LEASE_MS = 10_000
_KEPT_MS = 7 * 86_400_000
_BY_AGENT = b"a"  # the start of the members by agent: each session has one, which names the other

# In the background, the store has this much time for others between two scripts, in units of the
# time that the last one took. A million sessions take 25 s: evictions that one verification has
# missed are found by the next, within a minute.
_PAUSE_FACTOR = 5

Pause = Callable[[float], Awaitable[None]]  # takes the seconds that a script took

log = logging.getLogger(__name__)


async def no_pause(_: float) -> None:
    """Go on at once."""


class Repairs:
    """Repairs the indexes of shards. Methods raise StoreUnavailable.

    ``pause`` is awaited between two scripts with the seconds that one took.
    """

    def __init__(self, executor: ScriptExecutor, keys: Keys, retention_ms: int) -> None:
        self._executor = executor
        self._keys = keys
        self._retention_ms = retention_ms

    async def remove_lost(
        self,
        shard: str,
        start: bytes = b"",
        lost_ids: tuple[bytes, ...] = (),
        pause: Pause = no_pause,
    ) -> tuple[int, bool]:
        """Remove the entries of sessions whose records are gone.

        They are those whose members of the listing start with ``start``, and ``lost_ids``. Return
        how many members the listing lost, and whether as many sessions have a deadline as are
        listed now.
        """
        keys, now = self._keys.of_shard(REPAIR.keys, shard), asyncio.get_running_loop().time
        removed, after = 0, b""
        while True:
            began = now()
            arguments = RepairArguments(start, after, _MAX_MEMBERS, lost_ids)
            part = await self._executor.run(REPAIR, keys, arguments)
            removed, after = removed + part.removed, part.after
            if not after:
                return removed, bool(part.is_whole)
            await pause(now() - began)

    async def restore(self, shard: str, pause: Pause = no_pause) -> int:
        """Restore the deadlines of listed sessions, and list those that have only a deadline.

        Return how many entries were written. A session that has neither is not found.
        """
        now = asyncio.get_running_loop().time
        restored, position = 0, b""
        keys = self._keys.of_shard(RESTORE_DEADLINES.keys, shard)
        while True:
            began = now()
            arguments = RestoreDeadlinesArguments(self._retention_ms, position, _MAX_RESTORED)
            part = await self._executor.run(RESTORE_DEADLINES, keys, arguments)
            restored, position = restored + part.restored, part.position
            await pause(now() - began)
            if not position:
                break
        keys = self._keys.of_shard(RESTORE_LISTING.keys, shard)
        for after_warning in (False, True):
            place = 0
            while place >= 0:
                began = now()
                part = await self._executor.run(
                    RESTORE_LISTING,
                    keys,
                    RestoreListingArguments(
                        self._retention_ms, after_warning, place, _MAX_RESTORED
                    ),
                )
                restored, place = restored + part.restored, part.position
                await pause(now() - began)
        return restored


class Verification:
    """Verifies the indexes of sessions after evictions. Methods raise StoreUnavailable.

    ``may_evict`` says whether the store can have evicted keys; if not, none of this costs anything.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        quarantine: Quarantine,
        repairs: Repairs,
        may_evict: Callable[[], bool],
    ) -> None:
        self.may_evict = may_evict
        self._executor = executor
        self._quarantine = quarantine
        self._repairs = repairs
        self._keys = keys.of_shard(VERIFIED.keys, SHARDS[0])
        self._node = uuid4().hex
        self._waiting: dict[bytes, asyncio.Task[None]] = {}  # by the start of the members
        self._turn = asyncio.Lock()

    async def is_due(self) -> bool:
        """Return whether keys were evicted since the indexes were verified."""
        if not self.may_evict():
            return False
        evictions, verified = await asyncio.gather(
            self._evictions(), self._run(VERIFIED, NO_ARGUMENTS, default=Verified(b"", 0))
        )
        is_verified = not evictions or evictions == verified.evictions.decode()
        return bool(verified.is_pending) or not is_verified

    async def verify(self, shards: Sequence[str], start: bytes) -> None:
        """Remove evicted sessions whose members of the listing start with ``start``.

        One verification runs at a time. Callers that wait with the same ``start`` share the next.
        """
        waiting = self._waiting.get(start)
        if waiting is None:
            work = self._verify_in_turn(shards, start)
            waiting = self._waiting[start] = asyncio.create_task(work, name="verification")
            waiting.add_done_callback(_retrieve)
        await asyncio.shield(waiting)

    async def verify_in_background(self) -> None:
        """Verify all shards if that is due and no other node does it, at a sixth of the store."""

        async def pause(seconds: float) -> None:
            await asyncio.sleep(seconds * _PAUSE_FACTOR)

        if await self.is_due() and await self._claim():
            await self._verify_all(pause)

    async def _verify_in_turn(self, shards: Sequence[str], start: bytes) -> None:
        async with self._turn:
            del self._waiting[start]  # later callers may know of later evictions
            if start == b"u":
                await self._claim()  # so that it is pending if this node ends meanwhile
                await self._verify_all(no_pause)
            else:
                for shard in shards:
                    with self._quarantine.isolating(f"shard {shard}", REPAIR.name):
                        await self._repairs.remove_lost(shard, start)

    async def _verify_all(self, pause: Pause) -> None:
        evictions = await self._evictions()
        removed = restored = 0
        for shard in SHARDS:
            with self._quarantine.isolating(f"shard {shard}", REPAIR.name):
                lost, is_whole = await self._repairs.remove_lost(shard, _BY_AGENT, pause=pause)
                removed += lost
                if not is_whole:
                    restored += await self._repairs.restore(shard, pause)
            if pause is not no_pause and not await self._claim():
                return
        confirmation = ConfirmVerificationArguments(evictions, _KEPT_MS)
        await self._run(CONFIRM_VERIFICATION, confirmation, default=None)
        if removed or restored:
            log.warning(
                "sessions that the store has evicted were removed from the indexes",
                extra={"removed": removed, "restored": restored},
            )

    async def _claim(self) -> bool:
        arguments = ClaimVerificationArguments(self._node, _LEASE_MS)
        return await self._run(CLAIM_VERIFICATION, arguments, default=True)

    async def _run(self, script: Script[A, R], arguments: A, default: R) -> R:
        """Run a script on the key ``verified``; return the default if that is of a wrong type."""
        try:
            reply = await self._executor.run(script, self._keys, arguments)
        except RecordUnreadable as error:
            self._quarantine.failed("the key verified", script.name, error)
            return default
        self._quarantine.succeeded("the key verified", script.name)
        return reply

    async def _evictions(self) -> str:
        """Return how many keys each master has evicted since it started, e.g. ``4f1c…:120``.

        Masters that have evicted none are left out.
        """
        replies = await self._executor.run_on_masters(("INFO", "stats"), ("INFO", "server"))
        counts = []
        for master in replies.values():
            facts: dict[str, str] = {}
            for reply in master:
                if isinstance(reply, StoreUnavailable) and error_code(reply.reason) != "NOPERM":
                    raise reply
                if not isinstance(reply, Exception):
                    lines = bytes(reply).decode(errors="replace").splitlines()
                    facts |= dict(line.split(":", 1) for line in lines if ":" in line)
            if (evicted := facts.get("evicted_keys", "0")) != "0":
                counts.append(f"{facts.get('run_id', '')}:{evicted}")
        return " ".join(sorted(counts))


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from logging an error that the callers get."""
    if not task.cancelled():
        task.exception()
