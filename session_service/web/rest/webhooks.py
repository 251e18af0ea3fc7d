"""Webhooks: their handlers and routes. Their ids are taken in either case."""

from session_service.api.webhooks import (
    CreateWebhook,
    DeadLetterInfo,
    DeadLetterList,
    ListDeadLetters,
    ReplayDeadLetters,
    Replayed,
    RotateSecret,
    SecretRotated,
    WebhookCreated,
    WebhookInfo,
    WebhookList,
    WebhookRemoved,
)
from session_service.domain.errors import (
    RecordUnreadable,
    StoreUnavailable,
    TooManyWebhooks,
    ValidationFailed,
    WebhookNotFound,
)
from session_service.domain.events import EventFilter
from session_service.domain.webhooks import (
    OVERLAP_HOURS,
    QueueSizes,
    Target,
    check_types,
    check_url,
    new_secret,
    read_secret,
)
from session_service.web.http.context import RequestContext
from session_service.web.http.response import JsonResponse, encode
from session_service.web.rest.route import MESSAGING, Access, Route, Tag

WEBHOOKS = f"{MESSAGING}/webhooks"
_WEBHOOK = WEBHOOKS + "/{webhookId}"
_WEBHOOK_ERRORS = (WebhookNotFound, StoreUnavailable)

MS_PER_HOUR = 3_600_000

_REMOVED = encode(WebhookRemoved("Webhook removed"))


async def create_webhook(context: RequestContext, given: CreateWebhook) -> JsonResponse:
    """Register an endpoint that receives events from now on.

    The secret is returned only in this response.
    """
    webhooks = context.state.webhooks
    check_url(given.url, webhooks.policy.allowed_networks)
    secret = new_secret() if given.secret is None else given.secret
    read_secret(secret)
    wanted = EventFilter(
        user_id=None if given.user_id is None else given.user_id.lower(),
        agent_id=None if given.agent_id is None else given.agent_id.lower(),
        types=None if given.types is None else check_types(given.types),
    )
    webhook = await webhooks.add(Target(given.url, secret, wanted))
    location = ("Location", f"webhooks/{webhook.id}")  # relative: a proxy may add a prefix
    return JsonResponse(201, encode(WebhookCreated.of(webhook, QueueSizes(0, 0, 0))), (location,))


async def list_webhooks(context: RequestContext) -> JsonResponse:
    """List all webhooks, also those from the settings, without their secrets."""
    known = sorted((await context.state.webhooks.look()).values(), key=lambda each: each.created_at)
    sizes = await context.state.webhooks.sizes(webhook.id for webhook in known)
    shown = [WebhookInfo.of(*each) for each in zip(known, sizes, strict=True)]
    return JsonResponse(200, encode(WebhookList(shown)))


async def get_webhook(context: RequestContext, webhook_id: str) -> JsonResponse:
    """Read a webhook and the sizes of its queue."""
    webhook = await context.state.webhooks.get(webhook_id.lower())
    (sizes,) = await context.state.webhooks.sizes([webhook.id])
    if sizes is None:
        raise RecordUnreadable("the queue of a webhook cannot be read")
    return JsonResponse(200, encode(WebhookInfo.of(webhook, sizes)))


async def delete_webhook(context: RequestContext, webhook_id: str) -> JsonResponse:
    """Remove a webhook and its undelivered events."""
    await context.state.webhooks.remove(webhook_id.lower())
    return JsonResponse(200, _REMOVED)


async def rotate_webhook_secret(
    context: RequestContext, webhook_id: str, given: RotateSecret
) -> JsonResponse:
    """Replace the secret of a webhook.

    For ``overlapHours``, deliveries have two signatures, one by the new secret and one by the
    previous secret, so that receivers can change over.
    """
    secret = new_secret() if given.secret is None else given.secret
    read_secret(secret)
    hours = OVERLAP_HOURS[1] if given.overlap_hours is None else given.overlap_hours
    overlap_ms = round(hours * MS_PER_HOUR)
    webhook = await context.state.webhooks.rotate(webhook_id.lower(), secret, overlap_ms)
    return JsonResponse(200, encode(SecretRotated.of(webhook)))


async def list_dead_letters(
    context: RequestContext, webhook_id: str, given: ListDeadLetters
) -> JsonResponse:
    """List the failed deliveries to a webhook, oldest first."""
    letters, total = await context.state.webhooks.dead(
        webhook_id.lower(), given.offset, given.limit
    )
    shown = [DeadLetterInfo.of(letter) for letter in letters]
    return JsonResponse(200, encode(DeadLetterList(shown, total)))


async def replay_dead_letters(
    context: RequestContext, webhook_id: str, given: ReplayDeadLetters
) -> JsonResponse:
    """Deliver failed events again, all of them or those named.

    Also switches a webhook on that was switched off because its deliveries failed.
    """
    replayed = await context.state.webhooks.replay(webhook_id.lower(), given.ids)
    return JsonResponse(200, encode(Replayed(replayed)))


ROUTES = (
    Route(
        method="POST",
        path=WEBHOOKS,
        handler=create_webhook,
        created=("webhookId",),
        tag=Tag.WEBHOOKS,
        access=Access.PUBLIC,
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
        access=Access.PUBLIC,
        response=WebhookList,
        success="The webhooks",
        errors=(StoreUnavailable,),
    ),
    Route(
        method="GET",
        path=_WEBHOOK,
        handler=get_webhook,
        tag=Tag.WEBHOOKS,
        access=Access.PUBLIC,
        response=WebhookInfo,
        success="The webhook",
        errors=_WEBHOOK_ERRORS,
    ),
    Route(
        method="DELETE",
        path=_WEBHOOK,
        handler=delete_webhook,
        tag=Tag.WEBHOOKS,
        access=Access.PUBLIC,
        response=WebhookRemoved,
        success="Webhook removed",
        errors=_WEBHOOK_ERRORS,
    ),
    Route(
        method="POST",
        path=f"{_WEBHOOK}/rotate",
        handler=rotate_webhook_secret,
        tag=Tag.WEBHOOKS,
        access=Access.PUBLIC,
        body=RotateSecret,
        response=SecretRotated,
        success="The new secret",
        errors=(ValidationFailed, *_WEBHOOK_ERRORS),
    ),
    Route(
        method="GET",
        path=f"{_WEBHOOK}/dead",
        handler=list_dead_letters,
        tag=Tag.WEBHOOKS,
        access=Access.PUBLIC,
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
        access=Access.PUBLIC,
        body=ReplayDeadLetters,
        response=Replayed,
        success="They are delivered again",
        errors=_WEBHOOK_ERRORS,
    ),
)
