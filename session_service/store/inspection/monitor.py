"""Watches the store: inspects it at each new connection, and reads its state every few seconds."""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from session_service.domain.budgets import (
    STORE_CLOCK_STEP_SECONDS,
    STORE_EVICTED_SECONDS,
    STORE_LOG_SECONDS,
    STORE_READING_SECONDS,
    STORE_REFUSED_SECONDS,
)
from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.domain.findings import Finding, error
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.urls import StoreUrl
from session_service.store.inspection.dataset import DataSetReader
from session_service.store.inspection.inspect import (
    MAKE_ROOM,
    MORE_MEMORY,
    Inspection,
    Reading,
    command_named,
    inspect,
    read,
    try_commands,
)
from session_service.store.inspection.kinds import wrong_kind
from session_service.store.keys import Keys

_LEAST_SECONDS = 0.25  # between readings, if connections are made and lost all the time

_REFUSALS = {
    "OOM": error("store-full", "the store is full: it refuses new data", MORE_MEMORY),
    "MISCONF": error(
        "store-disk", "the store cannot write to disk: it refuses all changes", MAKE_ROOM
    ),
    "NOREPLICAS": error(
        "replicas",
        "the store has too few replicas: it refuses all changes",
        "bring the replicas back, or lower min-replicas-to-write",
    ),
}

_NO_FSYNC = error(
    "write-ack",
    "WRITE_ACK=fsync needs a store of Redis 7.2 or later, or Valkey, with an append-only file"
    " (appendonly yes)",
    "set appendonly yes in the store's configuration, or another WRITE_ACK",
)
_NO_DATABASE = error(
    "store-kind",
    "REDIS_URL names a database that the store does not have",
    "name a lower number, or raise databases in the store's configuration",
)

log = logging.getLogger(__name__)


class StoreMonitor:
    """The state of the store, for health, the log and the start of the service.

    ``latest`` is the last inspection, or None if the store was never reached. ``evicted_keys``
    counts the keys that the store evicted while it was watched. ``clock_step`` is the last step of
    its clock in seconds, e.g. -25.0 if it was set back; a replica that becomes the master continues
    the same clock.
    """

    def __init__(
        self, executor: ScriptExecutor, keys: Keys, store: StoreUrl, write_ack: str = "none"
    ) -> None:
        self.latest: Inspection | None = None
        self.data_set: DataSetReader | None = None  # is read at each connection, once it is set
        self.evicted_keys = 0
        self.clock_step = 0.0
        self._executor = executor
        self._keys = keys
        self._store = store
        self._write_ack = write_ack
        self._problem: Finding | None = None
        self._missing: tuple[str, ...] = ()
        self._is_absence_logged = False
        self._readings: dict[str, Reading] = {}
        self._refusals = Counter[str]()  # by error code, as of the last reading
        self._last_times: dict[str, float] = {}  # of each kind of trouble, by the loop's clock
        self._log_times: dict[str, float] = {}

    @property
    def problem(self) -> str:
        """The reason why the service cannot use the store at all, or ""."""
        return self._problem.problem if self._problem else ""

    @property
    def clock_difference(self) -> float | None:
        """How many seconds the store's clock is ahead of ours; None if it is unknown.

        With several masters, that of the clock which differs most.
        """
        loops = time.time() - self._now()
        clocks = [each.clock for each in self._readings.values() if each.clock is not None]
        return max((clock - loops for clock in clocks), key=abs, default=None)

    async def run(self) -> None:
        """Watch until cancelled."""
        connected = self._executor.signals.connected
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(connected.wait(), STORE_READING_SECONDS)
            problem = self.problem
            try:
                await self.refresh()
                if self.problem and self.problem != problem:
                    log.error(self.problem)
            except Exception:
                # The service works without the monitor: an odd reply must not end it.
                log.exception("store cannot be inspected")
            await asyncio.sleep(_LEAST_SECONDS)

    async def refresh(self) -> None:
        """Inspect the store if there is a new connection, else read the facts that change.

        A store that cannot be reached is logged, once.
        """
        signals = self._executor.signals
        is_new = self.latest is None or signals.connected.is_set()
        refused = signals.refused["NOPERM"] > self._refusals["NOPERM"]
        try:
            if is_new or refused or self._missing:
                await self._inspect()
            else:
                may_configure = all("save" in each.facts for each in self._readings.values())
                readings = await read(self._executor, all_facts=False, may_configure=may_configure)
                self._set_readings(
                    {n: _merged(self._readings.get(n), r) for n, r in readings.items()}
                )
        except StoreUnavailable as error:
            await self._note_failure(error.reason)
        else:
            if is_new and self.latest is not None:
                self._log_inspection(self.latest)

    def reasons(self) -> Iterator[str]:
        """Yield the reasons why health is degraded, a sentence each.

        E.g. ``the store is full: it refuses new data``.
        """
        return (each.problem for each in self._failing())

    def findings(self) -> Iterator[Finding]:
        """Yield the reasons why health is degraded, and then the risks."""
        yield from self._failing()
        yield from self.latest.warnings if self.latest else ()

    def _failing(self) -> Iterator[Finding]:
        if self._problem:
            yield self._problem
        if self._missing:
            yield _not_permitted(self._missing)
        failing = self.latest.failing if self.latest else ()
        yield from failing
        if self._is_recent("evicted"):
            yield error(
                "eviction",
                f"the store has evicted {self.evicted_keys:,} keys: sessions are lost",
                "set maxmemory-policy noeviction, and give the store more memory",
            )
        for code, finding in _REFUSALS.items():
            if self._is_recent(code) and not (
                code == "OOM" and any("full" in each.problem for each in failing)
            ):
                yield finding

    def describe(self, *, with_version: bool) -> str:
        """Return the kind of store, e.g. ``Valkey 9.1.0, one server; persistence: snapshots``."""
        if self._store.kind == "memory":
            return "memory, for tests only"
        if self.latest is None:
            return "not reached yet"
        server = self.latest.server if with_version else self.latest.server.partition(" ")[0]
        return f"{server}, {self.latest.topology}; persistence: {self.latest.persistence}"

    def may_evict(self) -> bool:
        """Return whether the store can evict keys, or has since it started; True if unknown."""
        if self.latest is None:
            return self._store.kind != "memory"
        return self.latest.policy not in ("", "noeviction") or any(
            reading.number("evicted_keys") for reading in self._readings.values()
        )

    async def _inspect(self) -> None:
        signals = self._executor.signals
        # Connects, if need be, before the signal of a new connection is cleared.
        await self._executor.run_on_masters(("PING",))
        signals.connected.clear()
        trial = await try_commands(self._executor, self._keys, self._write_ack)
        readings = await read(self._executor, all_facts=True)
        missing = [command for each in readings.values() for command in each.missing]
        self._set_missing(tuple(dict.fromkeys([*trial.missing, *missing])))
        if trial.refusal in _REFUSALS:
            self._note(trial.refusal, _REFUSALS[trial.refusal].problem)
        if self.data_set is not None:
            with suppress(RecordUnreadable):  # its own task logs that
                await self.data_set.read()
        self._set_readings(readings)

    def _set_missing(self, missing: tuple[str, ...]) -> None:
        """Store the commands that are not permitted; log them if they have changed."""
        if missing and missing != self._missing:
            log.error(_not_permitted(missing).problem)
        elif self._missing and not missing:
            log.info("the store's user is permitted all commands now")
        self._missing = missing

    def _log_inspection(self, found: Inspection) -> None:
        """Log the store's properties, warnings and problem."""
        log.info(
            "store",
            extra={
                "server": found.server,
                "topology": found.topology,
                "policy": found.policy,
                "persistence": found.persistence,
            },
        )
        for warning in found.warnings:
            log.warning(warning.problem)
            self._log_times[_without_numbers(warning.problem)] = self._now()
        problem = found.problem
        if self._write_ack == "fsync" and not found.acknowledges_fsync:
            problem = problem or _NO_FSYNC
        self._problem = problem

    def _set_readings(self, readings: dict[str, Reading]) -> None:
        """Store new readings, and log the troubles since the last ones."""
        before, self._readings = self._readings, readings
        data_set = self.data_set.current if self.data_set else None
        epoch = data_set.epoch if data_set else ""
        found = inspect(readings, self._store.kind, self._missing, epoch)
        for name, reading in readings.items():
            if name in before:
                self._compare(before[name], reading, found.policy)
        refused = self._executor.signals.refused
        for code, finding in _REFUSALS.items():
            if refused[code] > self._refusals[code]:
                self._note(code, finding.problem)
        self._refusals = refused.copy()
        if self.latest is not None:
            for each in (*found.failing, *found.warnings):
                if each not in self.latest.failing + self.latest.warnings:
                    self._note(_without_numbers(each.problem), each.problem)
        self.latest = found

    def _compare(self, before: Reading, after: Reading, policy: str) -> None:
        if before.facts.get("run_id") == after.facts.get("run_id"):
            evicted = after.number("evicted_keys") - before.number("evicted_keys")
            if evicted > 0:
                self.evicted_keys += evicted
                self._note(
                    "evicted",
                    f"the store evicts keys: sessions are lost (maxmemory-policy {policy})",
                )
        if before.clock is not None and after.clock is not None:
            step = after.clock - before.clock
            if abs(step) > STORE_CLOCK_STEP_SECONDS:
                self.clock_step = step
                log.warning("the store's clock was set", extra={"seconds": round(step, 3)})

    def _note(self, trouble: str, sentence: str) -> None:
        """Remember the time of a trouble, e.g. ``OOM``; log it, at most once a minute."""
        now = self._now()
        self._last_times[trouble] = now
        if now - self._log_times.get(trouble, -STORE_LOG_SECONDS) >= STORE_LOG_SECONDS:
            self._log_times[trouble] = now
            extra = {"evicted": self.evicted_keys} if trouble == "evicted" else {}
            log.warning(sentence, extra=extra)

    async def _note_failure(self, reason: str) -> None:
        if command := command_named(reason):  # of those that make a connection
            self._set_missing((command,))
        elif "DB index is out of range" in reason:
            self._problem = _NO_DATABASE
        elif self.latest is None:  # else the connections log it
            if not self._is_absence_logged:
                log.warning("store cannot be reached yet", extra={"reason": reason})
            self._is_absence_logged = True
            problem = await wrong_kind(self._store)
            self._problem = error("store-kind", problem, "correct REDIS_URL") if problem else None

    def _is_recent(self, trouble: str) -> bool:
        seconds = STORE_EVICTED_SECONDS if trouble == "evicted" else STORE_REFUSED_SECONDS
        last = self._last_times.get(trouble)
        return last is not None and self._now() - last < seconds

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _merged(before: Reading | None, now: Reading) -> Reading:
    return now._replace(facts={**before.facts, **now.facts}) if before else now


def _without_numbers(sentence: str) -> str:
    """Return a sentence without its digits: it is the same if only a number has changed."""
    return re.sub(r"\d", "", sentence)


def _not_permitted(missing: tuple[str, ...]) -> Finding:
    commands = ", ".join(missing)
    return error(
        "permissions",
        f"the store's user is not permitted {commands} (docs/operating.md)",
        f"permit {commands} to the user (ACL SETUSER)",
    )
