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
from session_service.web.http.response import Answer, encode
from session_service.web.http.state import AppState
from session_service.web.rest.route import MESSAGING, Route

WEBHOOKS = f"{MESSAGING}/webhooks"
_WEBHOOK = WEBHOOKS + "/{webhookId}"
_WEBHOOK_ERRORS = (WebhookNotFound, StoreUnavailable)

MS_PER_HOUR = 3_600_000

_REMOVED = encode(WebhookRemoved("Webhook removed"))


async def create_webhook(service: AppState, given: CreateWebhook) -> Answer:
    """Register an endpoint."""
    webhooks = service.webhooks
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
    return Answer(201, encode(WebhookCreated.of(webhook, QueueSizes(0, 0, 0))), (location,))


async def list_webhooks(service: AppState) -> Answer:
    """List the registered endpoints."""
    known = sorted((await service.webhooks.look()).values(), key=lambda each: each.created_at)
    sizes = await service.webhooks.sizes(webhook.id for webhook in known)
    shown = [WebhookInfo.of(*each) for each in zip(known, sizes, strict=True)]
    return Answer(200, encode(WebhookList(shown)))


async def get_webhook(service: AppState, webhook_id: str) -> Answer:
    """Read a webhook."""
    webhook = await service.webhooks.get(webhook_id.lower())
    (sizes,) = await service.webhooks.sizes([webhook.id])
    if sizes is None:
        raise RecordUnreadable("the queue of a webhook cannot be read")
    return Answer(200, encode(WebhookInfo.of(webhook, sizes)))


async def delete_webhook(service: AppState, webhook_id: str) -> Answer:
    """Remove a webhook."""
    await service.webhooks.remove(webhook_id.lower())
    return Answer(200, _REMOVED)


async def rotate_webhook_secret(service: AppState, webhook_id: str, given: RotateSecret) -> Answer:
    """Replace the secret."""
    secret = new_secret() if given.secret is None else given.secret
    read_secret(secret)
    hours = OVERLAP_HOURS[1] if given.overlap_hours is None else given.overlap_hours
    overlap_ms = round(hours * MS_PER_HOUR)
    webhook = await service.webhooks.rotate(webhook_id.lower(), secret, overlap_ms)
    return Answer(200, encode(SecretRotated.of(webhook)))


async def list_dead_letters(service: AppState, webhook_id: str, given: ListDeadLetters) -> Answer:
    """List what was given up."""
    letters, total = await service.webhooks.dead(webhook_id.lower(), given.offset, given.limit)
    shown = [DeadLetterInfo.of(letter) for letter in letters]
    return Answer(200, encode(DeadLetterList(shown, total)))


async def replay_dead_letters(
    service: AppState, webhook_id: str, given: ReplayDeadLetters
) -> Answer:
    """Deliver again what was given up."""
    replayed = await service.webhooks.replay(webhook_id.lower(), given.ids)
    return Answer(200, encode(Replayed(replayed)))


ROUTES = (
    Route(
        "POST",
        WEBHOOKS,
        create_webhook,
        "Create Webhook",
        "Register an endpoint that is told of events from now on. The secret is shown this once",
        201,
        WebhookCreated,
        "Webhook registered; Location is its address",
        (TooManyWebhooks, StoreUnavailable),
        body=CreateWebhook,
    ),
    Route(
        "GET",
        WEBHOOKS,
        list_webhooks,
        "List Webhooks",
        "List the registered endpoints, those of the settings among them, without their secrets",
        200,
        WebhookList,
        "The webhooks",
        (StoreUnavailable,),
    ),
    Route(
        "GET",
        _WEBHOOK,
        get_webhook,
        "Get Webhook",
        "Read a webhook, and how much waits for it",
        200,
        WebhookInfo,
        "The webhook",
        _WEBHOOK_ERRORS,
    ),
    Route(
        "DELETE",
        _WEBHOOK,
        delete_webhook,
        "Delete Webhook",
        "Remove a webhook, and all that waits for it",
        200,
        WebhookRemoved,
        "Webhook removed",
        _WEBHOOK_ERRORS,
    ),
    Route(
        "POST",
        f"{_WEBHOOK}/rotate",
        rotate_webhook_secret,
        "Rotate Webhook Secret",
        "Replace the secret of a webhook. For overlapHours, deliveries have two signatures, by the"
        " new secret and by the last one, so that receivers can change over",
        200,
        SecretRotated,
        "The new secret",
        (ValidationFailed, *_WEBHOOK_ERRORS),
        body=RotateSecret,
    ),
    Route(
        "GET",
        f"{_WEBHOOK}/dead",
        list_dead_letters,
        "List Dead Letters",
        "List the deliveries to a webhook that were given up, oldest first",
        200,
        DeadLetterList,
        "A page of dead letters",
        (ValidationFailed, *_WEBHOOK_ERRORS),
        query=ListDeadLetters,
    ),
    Route(
        "POST",
        f"{_WEBHOOK}/dead/replay",
        replay_dead_letters,
        "Replay Dead Letters",
        "Deliver again what was given up: all of it, or the events named. A webhook that was"
        " switched off is switched on",
        200,
        Replayed,
        "They are delivered again",
        _WEBHOOK_ERRORS,
        body=ReplayDeadLetters,
    ),
)
