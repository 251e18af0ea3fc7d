"""The registered webhooks in the store (keys.py describes the key)."""

import os
from collections.abc import Sequence

from msgspec.structs import replace

from session_service.domain.errors import (
    RecordUnreadable,
    TooManyWebhooks,
    ValidationFailed,
    WebhookNotFound,
)
from session_service.domain.ids import SHARDS, new_webhook_id, shard_of_session
from session_service.domain.webhooks import (
    MAX_WEBHOOKS,
    DeadLetter,
    Target,
    Webhook,
    WebhookPolicy,
    settings_id,
)
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.registry_records import RegistryRecords, id_of
from session_service.store.scripts.registry import ListArguments
from session_service.store.scripts.webhooks import (
    LIST,
    PUT,
    REMOVE,
    ROTATE,
    SET_ENABLED,
    SETTINGS_REGISTERED,
    PutArguments,
    RemoveArguments,
    RotateArguments,
    SetEnabledArguments,
    SettingsRegisteredArguments,
)
from session_service.store.webhooks.queue import DeliveryQueues, subject_of
from session_service.store.webhooks.records import pack_webhook, unpack_webhook

_KEPT_MS = 365 * 24 * 3_600_000


class Webhooks:
    """The registered webhooks, and the queues of their deliveries.

    Every method raises StoreUnavailable. Those that take the id of a webhook raise WebhookNotFound,
    and RecordUnreadable if its record is damaged or of a newer version.
    """

    def __init__(
        self, executor: ScriptExecutor, keys: Keys, policy: WebhookPolicy, quarantine: Quarantine
    ) -> None:
        self.policy = policy
        self.quarantine = quarantine
        self.queues = DeliveryQueues(executor, keys, policy, self.quarantine)
        self._executor = executor
        self.measures = executor.signals.measures
        self._registry = keys.of_shard(LIST.keys, SHARDS[0])
        self._version = b""
        self._records = RegistryRecords(unpack_webhook, subject_of, quarantine)
        self._json: dict[str, bytes] = {}  # as they are stored
        self._mark = b""  # of the data set in which the endpoints of the settings were registered
        self._seen_mark = b""

    async def list_all(self) -> dict[str, Webhook]:
        """Return all readable webhooks by id, as they are now. Cheap if nothing has changed."""
        version = b"" if self._records.must_read_again() else self._version
        values = await self._executor.run(LIST, self._registry, ListArguments(version, _KEPT_MS))
        if values is not None:
            self._version = values.pop(b"version", b"")
            self._seen_mark = values.pop(b"settings", b"")
            self._records.replace(values)
            self._json = {
                id_of(field): b"{" + value.partition(b" {")[2] for field, value in values.items()
            }
        return self._records.known

    async def get(self, webhook_id: str, agents: frozenset[str] | None = None) -> Webhook:
        """Return a webhook that exists for a key bound to these agents, or with None any one.

        Whose a damaged record is cannot be known, so none exists for a bound key.
        """
        webhook = (await self.list_all()).get(webhook_id)
        if webhook is None and agents is None and webhook_id in self._records.unreadable:
            raise RecordUnreadable
        if webhook is None or not webhook.exists_for(agents):
            raise WebhookNotFound
        return webhook

    async def add(self, target: Target) -> Webhook:
        """Register an endpoint; raises TooManyWebhooks."""
        return await self._put(new_webhook_id(os.urandom), target, is_from_settings=False)

    @property
    def must_adopt_settings(self) -> bool:
        """Whether ``adopt_settings`` has not run on the data set that was last listed.

        This is so at the start, and after the data were lost or replaced.
        """
        return self._mark != self._seen_mark or not self._mark

    async def adopt_settings(self) -> None:
        """Register the endpoints in the settings, and remove those that no longer are in them.

        Raises TooManyWebhooks if there is no room for all of them.
        """
        too_many: TooManyWebhooks | None = None
        try:
            await self._adopt_settings()
        except TooManyWebhooks as error:
            too_many = error
        self._mark = self._seen_mark = await self._executor.run(
            SETTINGS_REGISTERED,
            self._registry,
            SettingsRegisteredArguments(os.urandom(8).hex(), _KEPT_MS),
        )
        if too_many is not None:
            raise too_many

    async def _adopt_settings(self) -> None:
        targets = {settings_id(target.url): target for target in self.policy.endpoints}
        for webhook in list((await self.list_all()).values()):
            if webhook.is_from_settings and webhook.id not in targets:
                await self.remove(webhook.id)
        for webhook_id, target in targets.items():
            await self._put(webhook_id, target, is_from_settings=True)

    async def remove(self, webhook_id: str) -> None:
        """Remove a webhook and its queue."""
        if shard_of_session(webhook_id) is None or not await self._executor.run(
            REMOVE, self._registry, RemoveArguments(webhook_id)
        ):
            raise WebhookNotFound
        await self.queues.drop(webhook_id)

    async def set_enabled(self, webhook_id: str, *, enabled: bool) -> bool:
        """Enable or disable a webhook; return whether that changed anything."""
        return await self._executor.run(
            SET_ENABLED, self._registry, SetEnabledArguments(webhook_id, enabled)
        )

    async def rotate(self, webhook_id: str, secret: str, overlap_ms: int) -> Webhook:
        """Replace the secret of a webhook; the old one is used beside it for ``overlap_ms``.

        Raises ValidationFailed for a webhook from the settings.
        """
        while True:
            webhook = await self.get(webhook_id)
            if webhook.is_from_settings:
                raise ValidationFailed(
                    "webhookId",
                    "must not be of an endpoint in SESSION_WEBHOOKS:"
                    " change its secret there, and name the last one as previousSecret",
                )
            target = replace(webhook.target, secret=secret, previous_secret=webhook.target.secret)
            overlap_until = await self._executor.run(
                ROTATE,
                self._registry,
                RotateArguments(
                    webhook_id,
                    old_json=self._json[webhook_id],
                    new_json=pack_webhook(target, is_from_settings=False),
                    overlap_ms=overlap_ms,
                ),
            )
            if overlap_until is not None:
                return replace(webhook, target=target, overlap_until=overlap_until)

    async def dead_letters(
        self, webhook_id: str, offset: int, limit: int
    ) -> tuple[list[DeadLetter], int]:
        """Return a page of the parked deliveries, oldest first, and how many there are."""
        await self.get(webhook_id)
        return await self.queues.dead_letters(webhook_id, offset, limit)

    async def replay(self, webhook_id: str, event_ids: Sequence[str] | None) -> int:
        """Enable a webhook, and put its parked deliveries back: those of some events, or all.

        Returns the number of deliveries.
        """
        await self.get(webhook_id)
        await self.set_enabled(webhook_id, enabled=True)
        return await self.queues.replay(webhook_id, event_ids)

    async def _put(self, webhook_id: str, target: Target, *, is_from_settings: bool) -> Webhook:
        record = pack_webhook(target, is_from_settings=is_from_settings)
        created = await self._executor.run(
            PUT, self._registry, PutArguments(webhook_id, record, MAX_WEBHOOKS, _KEPT_MS)
        )
        if created is None:
            raise TooManyWebhooks(MAX_WEBHOOKS)
        return Webhook(webhook_id, target, created, is_from_settings, is_enabled=True)
