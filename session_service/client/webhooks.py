"""The operations on webhooks."""

from collections.abc import Sequence

from session_service.api.webhooks import (
    CreateWebhook,
    DeadLetterInfo,
    DeadLetterList,
    ListDeadLetters,
    ReplayDeadLetters,
    Replayed,
    RotateSecret,
    SecretRotated,
    TestWebhook,
    WebhookCreated,
    WebhookInfo,
    WebhookList,
    WebhookRemoved,
    WebhookTested,
)
from session_service.client.paging import Pages
from session_service.client.resource import Resource
from session_service.client.transport import operation, path_of

_TEST_SECONDS = 65.0  # SESSION_WEBHOOKS_TIMEOUT_SECONDS is at most 60


class Webhooks(Resource):
    """``service.webhooks``: register endpoints, rotate secrets, and handle dead letters."""

    @operation("createWebhook")
    async def create(
        self,
        url: str,
        *,
        secret: str | None = None,
        types: Sequence[str] | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> WebhookCreated:
        """Register an endpoint; only this response has its secret."""
        body = CreateWebhook(
            url=url,
            secret=secret,
            types=None if types is None else [*types],
            user_id=user_id,
            agent_id=agent_id,
        )
        return await self._transport.call(
            "POST",
            path_of("webhooks"),
            WebhookCreated,
            body=body,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    @operation("listWebhooks")
    async def list(self, *, timeout: float | None = None) -> WebhookList:
        """Return all webhooks."""
        return await self._transport.call("GET", path_of("webhooks"), WebhookList, timeout=timeout)

    @operation("getWebhook")
    async def get(self, webhook_id: str, *, timeout: float | None = None) -> WebhookInfo:
        """Read a webhook and the sizes of its queue."""
        path = path_of("webhooks", webhook_id)
        return await self._transport.call("GET", path, WebhookInfo, timeout=timeout)

    @operation("deleteWebhook")
    async def delete(
        self,
        webhook_id: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> WebhookRemoved:
        """Remove a webhook and its undelivered events."""
        return await self._transport.call(
            "DELETE",
            path_of("webhooks", webhook_id),
            WebhookRemoved,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    @operation("rotateWebhookSecret")
    async def rotate(
        self,
        webhook_id: str,
        *,
        secret: str | None = None,
        overlap_hours: float | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> SecretRotated:
        """Replace the secret of a webhook; both sign for ``overlap_hours``."""
        return await self._transport.call(
            "POST",
            path_of("webhooks", webhook_id, "rotate"),
            SecretRotated,
            body=RotateSecret(secret=secret, overlap_hours=overlap_hours),
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    @operation("testWebhook")
    async def test(
        self,
        webhook_id: str,
        event_type: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> WebhookTested:
        """Send a sample, e.g. of ``expiring``, and return the outcome, which may be a failure.

        By default, ``timeout`` is longer than any endpoint may take.
        """
        return await self._transport.call(
            "POST",
            path_of("webhooks", webhook_id, "test"),
            WebhookTested,
            body=TestWebhook(type=event_type),
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=_TEST_SECONDS if timeout is None else timeout,
        )

    def dead_letters(
        self,
        webhook_id: str,
        *,
        limit: int = 100,
        offset: int = 0,
        timeout: float | None = None,
    ) -> Pages[DeadLetterList, DeadLetterInfo, int]:
        """Return the failed deliveries, oldest first, from pages of up to ``limit``.

        A replay during the loop moves the letters, so replay after it.
        """

        async def read(offset: int | None) -> DeadLetterList:
            return await self.dead_letters_page(
                webhook_id, limit=limit, offset=offset or 0, timeout=timeout
            )

        def following(page: DeadLetterList) -> int | None:
            return (pages.cursor or 0) + len(page.dead_letters) if page.dead_letters else None

        pages = Pages(read, lambda page: page.dead_letters, following, offset)
        return pages

    @operation("listDeadLetters")
    async def dead_letters_page(
        self,
        webhook_id: str,
        *,
        limit: int = 100,
        offset: int = 0,
        timeout: float | None = None,
    ) -> DeadLetterList:
        """Return one page of failed deliveries, and their total."""
        return await self._transport.call(
            "GET",
            path_of("webhooks", webhook_id, "dead"),
            DeadLetterList,
            query=ListDeadLetters(limit=limit, offset=offset),
            timeout=timeout,
        )

    @operation("replayDeadLetters")
    async def replay(
        self,
        webhook_id: str,
        *,
        ids: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Replayed:
        """Deliver failed events again, all of them or those named."""
        return await self._transport.call(
            "POST",
            path_of("webhooks", webhook_id, "dead", "replay"),
            Replayed,
            body=ReplayDeadLetters(ids=None if ids is None else [*ids]),
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )
