"""Handlers and routes of webhooks, under ``/api/messaging/webhooks``.

A webhook that an API key registers which is bound to agents belongs to these agents: it receives
only their events, and does not exist for keys that are bound to others. Users have no webhooks.
"""

import os

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
from session_service.audit import AuditEvent
from session_service.domain.credentials import Permission
from session_service.domain.errors import (
    NotPermitted,
    RateLimited,
    RecordUnreadable,
    StoreUnavailable,
    TooManyWebhooks,
    ValidationFailed,
    WebhookNotFound,
)
from session_service.domain.events import EventFilter
from session_service.domain.signing import new_secret, read_secret
from session_service.domain.webhooks import (
    DEFAULT_OVERLAP_HOURS,
    QueueSizes,
    Target,
    check_types,
    check_url,
)
from session_service.store.webhooks.registry import Webhooks
from session_service.web.http.context import RequestContext
from session_service.web.http.fields import lower
from session_service.web.http.response import JsonResponse, encode
from session_service.web.rest.route import MESSAGING, Route, Tag

WEBHOOKS = f"{MESSAGING}/webhooks"
_WEBHOOK = WEBHOOKS + "/{webhookId}"
_WEBHOOK_ERRORS = (WebhookNotFound, StoreUnavailable)

_MS_PER_HOUR = 3_600_000

_REMOVED = encode(WebhookRemoved("Webhook removed"))


def _owners(context: RequestContext) -> frozenset[str] | None:
    """Return the agents to which the caller's webhooks belong, or None if it may see all.

    Raises NotPermitted if the caller is a user.
    """
    if context.credential.user is not None:
        raise NotPermitted("Webhooks are not for users.")
    return context.credential.agents


async def _webhooks_with(context: RequestContext, webhook_id: str) -> Webhooks:
    """Return the registry if the webhook exists for the caller; raises WebhookNotFound."""
    agents = _owners(context)
    if agents is not None:
        await context.state.webhooks.get(webhook_id, agents)
    return context.state.webhooks


async def create_webhook(context: RequestContext, body: CreateWebhook) -> JsonResponse:
    """Register an endpoint that receives events from now on.

    The secret is returned only in this response.
    """
    _owners(context)
    webhooks = context.state.webhooks
    check_url(body.url, webhooks.policy.allowed_networks)
    secret = new_secret(os.urandom) if body.secret is None else body.secret
    read_secret(secret)
    event_filter = EventFilter(
        user_id=lower(body.user_id),
        agent_id=lower(body.agent_id),
        types=None if body.types is None else check_types(body.types),
    ).limited_to(context.credential)
    with context.audited(AuditEvent.WEBHOOK_CREATED) as entry:
        webhook = await webhooks.add(Target(body.url, secret, event_filter))
        entry.add(webhook=webhook.id)
    location = ("Location", f"webhooks/{webhook.id}")  # relative: a proxy may add a prefix
    return JsonResponse(201, encode(WebhookCreated.of(webhook, QueueSizes(0, 0, 0))), (location,))


async def list_webhooks(context: RequestContext) -> JsonResponse:
    """List all webhooks, also those from the settings, without their secrets."""
    registry, agents = context.state.webhooks, _owners(context)
    every = (await registry.list_all()).values()
    webhooks = sorted(
        (webhook for webhook in every if webhook.exists_for(agents)),
        key=lambda each: each.created_at,
    )
    sizes = await registry.queues.sizes(webhook.id for webhook in webhooks)
    infos = [WebhookInfo.of(*each) for each in zip(webhooks, sizes, strict=True)]
    return JsonResponse(200, encode(WebhookList(infos)))


async def get_webhook(context: RequestContext, webhook_id: str) -> JsonResponse:
    """Read a webhook and the sizes of its queue."""
    webhooks = context.state.webhooks
    webhook = await webhooks.get(webhook_id, _owners(context))
    (sizes,) = await webhooks.queues.sizes([webhook.id])
    if sizes is None:
        raise RecordUnreadable("the queue of a webhook cannot be read")
    return JsonResponse(200, encode(WebhookInfo.of(webhook, sizes)))


async def delete_webhook(context: RequestContext, webhook_id: str) -> JsonResponse:
    """Remove a webhook and its undelivered events."""
    webhooks = await _webhooks_with(context, webhook_id)
    with context.audited(AuditEvent.WEBHOOK_DELETED, webhook=webhook_id):
        await webhooks.remove(webhook_id)
    return JsonResponse(200, _REMOVED)


async def rotate_webhook_secret(
    context: RequestContext, webhook_id: str, body: RotateSecret
) -> JsonResponse:
    """Replace the secret of a webhook.

    For ``overlapHours``, deliveries have two signatures, one by the new secret and one by the
    previous secret, so that receivers can change over.
    """
    webhooks = await _webhooks_with(context, webhook_id)
    secret = new_secret(os.urandom) if body.secret is None else body.secret
    read_secret(secret)
    hours = DEFAULT_OVERLAP_HOURS if body.overlap_hours is None else body.overlap_hours
    overlap_ms = round(hours * _MS_PER_HOUR)
    with context.audited(AuditEvent.WEBHOOK_ROTATED, webhook=webhook_id, overlap_hours=hours):
        webhook = await webhooks.rotate(webhook_id, secret, overlap_ms)
    return JsonResponse(200, encode(SecretRotated.of(webhook)))


async def test_webhook(context: RequestContext, webhook_id: str, body: TestWebhook) -> JsonResponse:
    """Send a sample of an event to a webhook, and return the outcome.

    The sample is sent at once, whatever types the webhook selects. It is signed as any delivery,
    and has ``"test": true``. If that fails, the response is the same 200 with ``delivered: false``;
    the sample is not sent again.
    """
    webhook = await context.state.webhooks.get(webhook_id, _owners(context))
    name = body.type.removeprefix("session.")
    with context.audited(AuditEvent.WEBHOOK_TESTED, webhook=webhook_id) as entry:
        sample, outcome, duration_ms = await context.state.webhook_tests.send(webhook, name)
        entry.add(delivered=not outcome.failure)
    return JsonResponse(
        200,
        encode(
            WebhookTested(
                delivered=not outcome.failure,
                status=outcome.status or None,
                duration_ms=duration_ms,
                failure=outcome.failure or None,
                event=sample.cloud_event(),
            )
        ),
    )


async def list_dead_letters(
    context: RequestContext, webhook_id: str, query: ListDeadLetters
) -> JsonResponse:
    """List the failed deliveries to a webhook, oldest first."""
    webhooks = await _webhooks_with(context, webhook_id)
    letters, total = await webhooks.dead_letters(webhook_id, query.offset, query.limit)
    infos = [DeadLetterInfo.of(letter) for letter in letters]
    return JsonResponse(200, encode(DeadLetterList(infos, total)))


async def replay_dead_letters(
    context: RequestContext, webhook_id: str, body: ReplayDeadLetters
) -> JsonResponse:
    """Deliver failed events again, all of them or those named.

    Also enables a webhook that was disabled because its deliveries failed.
    """
    webhooks = await _webhooks_with(context, webhook_id)
    with context.audited(AuditEvent.WEBHOOK_REPLAYED, webhook=webhook_id) as entry:
        replayed = await webhooks.replay(webhook_id, body.ids)
        entry.add(replayed=replayed)
    return JsonResponse(200, encode(Replayed(replayed)))


ROUTES = (
    Route(
        method="POST",
        path=WEBHOOKS,
        handler=create_webhook,
        created=("webhookId",),
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        access_note="If the API key is bound to agents, the endpoint receives only their events.",
        body=CreateWebhook,
        status=201,
        response=WebhookCreated,
        success="Webhook registered; Location is its address",
        errors=(TooManyWebhooks, StoreUnavailable),
    ),
    Route(
        method="GET",
        path=WEBHOOKS,
        handler=list_webhooks,
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        access_note="If the API key is bound to agents, lists only their webhooks.",
        response=WebhookList,
        success="The webhooks",
        errors=(StoreUnavailable,),
    ),
    Route(
        method="GET",
        path=_WEBHOOK,
        handler=get_webhook,
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        response=WebhookInfo,
        success="The webhook",
        errors=_WEBHOOK_ERRORS,
    ),
    Route(
        method="DELETE",
        path=_WEBHOOK,
        handler=delete_webhook,
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        response=WebhookRemoved,
        success="Webhook removed",
        errors=_WEBHOOK_ERRORS,
    ),
    Route(
        method="POST",
        path=f"{_WEBHOOK}/rotate",
        handler=rotate_webhook_secret,
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        body=RotateSecret,
        response=SecretRotated,
        success="The new secret",
        errors=(ValidationFailed, *_WEBHOOK_ERRORS),
    ),
    Route(
        method="POST",
        path=f"{_WEBHOOK}/test",
        handler=test_webhook,
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        body=TestWebhook,
        response=WebhookTested,
        success="The outcome, also if the endpoint failed",
        errors=(RateLimited, *_WEBHOOK_ERRORS),
    ),
    Route(
        method="GET",
        path=f"{_WEBHOOK}/dead",
        handler=list_dead_letters,
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        query=ListDeadLetters,
        response=DeadLetterList,
        success="A page of dead letters",
        errors=(ValidationFailed, *_WEBHOOK_ERRORS),
    ),
    Route(
        method="POST",
        path=f"{_WEBHOOK}/dead/replay",
        handler=replay_dead_letters,
        tag=Tag.WEBHOOKS,
        access=Permission.WEBHOOKS_ADMIN,
        body=ReplayDeadLetters,
        response=Replayed,
        success="They will be delivered again",
        errors=_WEBHOOK_ERRORS,
    ),
)
