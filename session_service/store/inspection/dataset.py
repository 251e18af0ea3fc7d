"""The data set in the store: its format, and whether it is still the same one.

Its ``meta`` key has the newest format that a node has written, and an epoch: random digits that
change if the store loses its data, as after FLUSHALL. The first node writes the key, and every node
renews its TTL.
"""

import asyncio
import logging
import os
from contextlib import suppress
from typing import NamedTuple

from session_service.domain.errors import StoreUnavailable
from session_service.domain.ids import SHARDS
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.records import FORMAT, OLDEST_FORMAT
from session_service.store.scripts.dataset import LAYOUT, META, LayoutArguments, MetaArguments

DEFAULT_PREFIX = "session-service"
OLD_PREFIX = "sess"  # the default of 0.1.0

_KEPT_MS = 2 * 366 * 86_400_000  # without a node: longer than any session or conversation is kept
_REFRESH_SECONDS = 5.0  # until a new epoch is noticed; one call of 5 us
_TOGETHER = 32  # shards checked by one call, if the store allows that

log = logging.getLogger(__name__)


class OldDataError(Exception):
    """The store has data of an older format; the message is for the operator."""


class DataSet(NamedTuple):
    """The data set that a store holds, e.g. ``DataSet(2, "9f86d081884c7d65")``."""

    format: int
    epoch: str


class DataSetReader:
    """Reads the data set, and logs its changes."""

    def __init__(self, executor: ScriptExecutor, keys: Keys) -> None:
        self._executor = executor
        self._keys = keys.of_shard(META.keys, SHARDS[0])
        self.current: DataSet | None = None  # None until it was read

    async def read(self) -> DataSet:
        """Read the data set; start a new one if the store is empty.

        Raises StoreUnavailable, and RecordUnreadable if another program wrote the key.
        """
        new_epoch = os.urandom(8).hex()
        meta = await self._executor.run(
            META, self._keys, MetaArguments(FORMAT, new_epoch, kept_ms=_KEPT_MS)
        )
        found = DataSet(meta.format, meta.epoch.decode())
        self._compare(found)
        return found

    async def watch_forever(self, quarantine: Quarantine) -> None:
        """Read the data set every 5 s, which renews its key. Ends by cancellation."""
        while True:
            with suppress(StoreUnavailable), quarantine.isolating("the key meta", "read"):
                await self.read()
            await asyncio.sleep(_REFRESH_SECONDS)

    def _compare(self, found: DataSet) -> None:
        before, self.current = self.current, found
        if found.format > FORMAT and (before is None or before.format <= FORMAT):
            log.warning(
                "a newer version of the service uses this store; its sessions are left as they are",
                extra={"format": found.format, "readable": FORMAT},
            )
        if before is not None and before.epoch != found.epoch:
            log.warning("the store lost its data, or its data was replaced")


async def check_layout(executor: ScriptExecutor, prefix: str) -> None:
    """Raise OldDataError if the store has data of a format that this version cannot read.

    Searches under the prefix, and if it is the default, also under the default of 0.1.0.
    """
    for each in dict.fromkeys((prefix, OLD_PREFIX) if prefix == DEFAULT_PREFIX else (prefix,)):
        keys, size = Keys(each), _TOGETHER if executor.spans_shards else 1
        parts = [SHARDS[n : n + size] for n in range(0, len(SHARDS), size)]
        calls = [
            (keys.of_shards(LAYOUT.keys, part), LayoutArguments(OLDEST_FORMAT)) for part in parts
        ]
        if any(await executor.run_all(LAYOUT, calls)):
            raise OldDataError(
                f"the store has data of an older format under the prefix {each!r}, which this"
                " version cannot read: run the version that wrote it, or start without it by"
                " setting SESSION_KEY_PREFIX to another name, such as sessions-2"
            )
