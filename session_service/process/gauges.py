"""The gauges of the store, read for each request for the metrics."""

import time
from contextlib import suppress

from session_service import __version__
from session_service.composition import Store
from session_service.domain.errors import RecordUnreadable, StoreUnavailable
from session_service.metrics import catalogue
from session_service.metrics.numbers import Measurement

_NOT_EVICTING = ("", "noeviction")  # policies that evict nothing; "" is an unknown one


class StoreGauges:
    """The state of the store, and of this process's work on it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self) -> list[Measurement]:
        """Return all gauges; if the store is unavailable, those that need no reply."""
        store = self._store
        gauges = [
            Measurement(catalogue.BUILD_INFO, 1, (__version__,)),
            Measurement(catalogue.SKIPPED, len(store.quarantine)),
            *self._outbox(),
            *self._properties(),
        ]
        try:
            gauges += await self._sessions()
        except StoreUnavailable:
            return [*gauges, Measurement(catalogue.STORE_UP, 0)]
        gauges.append(Measurement(catalogue.STORE_UP, 1))
        with suppress(StoreUnavailable, RecordUnreadable):  # health reports it
            gauges += await self._webhooks()
        return gauges

    async def _sessions(self) -> list[Measurement]:
        counts = await self._store.repository.count()
        states = {
            "active": counts.active,
            "expiring_soon": counts.near_expiration,
            "expired": counts.expired,
            "invalid": counts.unreadable,
        }
        return [
            Measurement(catalogue.SWEEP_OVERDUE, counts.sweep_lag_ms / 1000),
            *(Measurement(catalogue.SESSIONS, each, (name,)) for name, each in states.items()),
        ]

    async def _webhooks(self) -> list[Measurement]:
        webhooks = self._store.webhooks
        sizes = await webhooks.queues.sizes(await webhooks.list_all())
        known = [each for each in sizes if each is not None]
        return [
            Measurement(catalogue.WEBHOOK_QUEUED, sum(each.queued for each in known)),
            Measurement(catalogue.WEBHOOK_DEAD, sum(each.dead for each in known)),
        ]

    def _outbox(self) -> list[Measurement]:
        outbox, retention = self._store.outbox, self._store.settings.events.retention_ms
        age_ms = max(0, round(time.time() * 1000) - outbox.gone_until)
        return [
            Measurement(catalogue.OUTBOX_EVENTS, outbox.length),
            Measurement(catalogue.OUTBOX_RETAINED, min(age_ms, retention) / 1000),
            Measurement(catalogue.OUTBOX_RETENTION, retention / 1000),
        ]

    def _properties(self) -> list[Measurement]:
        """Return whether the store may evict keys, and whether it is durable, as far as known."""
        found = self._store.monitor.latest
        if found is None:
            return []
        gauges = [Measurement(catalogue.STORE_EVICTS, int(found.policy not in _NOT_EVICTING))]
        if found.persistence != "unknown":
            gauges.append(Measurement(catalogue.STORE_DURABLE, int(found.persistence != "none")))
        return gauges
