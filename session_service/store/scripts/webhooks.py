"""Webhooks: their registry, and the queues of their deliveries."""

from typing import Any, NamedTuple

from session_service.domain.webhooks import QueueSizes
from session_service.store.client.script import Arguments, Digits, NoArguments, Script
from session_service.store.scripts.library import LIBRARY
from session_service.store.scripts.registry import ListArguments, fields_of

LIST = Script(
    LIBRARY,
    "webhooks/list",
    keys=("webhooks",),
    arguments=ListArguments,
    reply=fields_of,  # names and values, or None if the version is the known one
    writes=False,  # what is done again if it is lost need not be acknowledged
)


class PutArguments(Arguments):
    """A webhook to register or to change."""

    webhook_id: str
    json: bytes
    max_webhooks: int
    kept_ms: Digits


def _optional_ms(reply: int | None) -> int | None:
    return reply


PUT = Script(
    LIBRARY,
    "webhooks/put",
    keys=("webhooks",),
    arguments=PutArguments,
    parts=("clock", "webhooks/version"),
    reply=_optional_ms,  # createdAt, or None if as many are registered as there may be
)


class RotateArguments(Arguments):
    """A new secret, in the JSON of a webhook."""

    webhook_id: str
    old_json: bytes
    new_json: bytes
    overlap_ms: int


ROTATE = Script(
    LIBRARY,
    "webhooks/rotate",
    keys=("webhooks",),
    arguments=RotateArguments,
    parts=("clock", "webhooks/version"),
    reply=_optional_ms,  # when the overlap ends, or None if the webhook has changed meanwhile
)


class SettingsRegisteredArguments(Arguments):
    """A mark for the data set in which the endpoints of the settings are registered."""

    mark: str
    kept_ms: Digits


SETTINGS_REGISTERED = Script(
    LIBRARY,
    "webhooks/settings_registered",
    keys=("webhooks",),
    arguments=SettingsRegisteredArguments,
    parts=("clock",),
    reply=bytes,  # the mark of the data set
)


class RemoveArguments(Arguments):
    """A webhook."""

    webhook_id: str


REMOVE = Script(
    LIBRARY,
    "webhooks/remove",
    keys=("webhooks",),
    arguments=RemoveArguments,
    parts=("clock", "webhooks/version"),
    reply=bool,  # whether there was one
)


class SetEnabledArguments(Arguments):
    """A webhook, and whether it gets deliveries."""

    webhook_id: str
    is_enabled: bool


SET_ENABLED = Script(
    LIBRARY,
    "webhooks/set_enabled",
    keys=("webhooks",),
    arguments=SetEnabledArguments,
    parts=("clock", "webhooks/version"),
    reply=bool,  # whether that changed anything
)


class EnqueueArguments(Arguments):
    """Events to deliver, in order."""

    max_queued: int
    words: tuple[str | bytes, ...]  # of each event its id, and the event as in the outbox


class Enqueued(NamedTuple):
    """How many events were new to the queue, and how many of those it had no room for."""

    new: int
    dropped: int


ENQUEUE = Script(
    LIBRARY,
    "webhooks/enqueue",
    keys=("queue", "bodies", "due", "leased", "state"),
    arguments=EnqueueArguments,
    parts=("clock", "ids", "webhooks/queue"),
    reply=Enqueued._make,
)


class ClaimArguments(Arguments):
    """How many lanes to claim at most, and for how long."""

    limit: Digits
    lease_ms: int


class ClaimedLane(NamedTuple):
    """The first delivery of a session."""

    session_id: bytes
    event_id: bytes
    lease: bytes  # until when the lane is claimed, epoch ms
    failures: int
    event: bytes  # as in the outbox


class Claimed(NamedTuple):
    """Lanes that were claimed."""

    now: int  # the store's clock, epoch ms
    next_due: int  # when the next lane is due, epoch ms; 0 if there is none
    dropped: int  # deliveries whose body is malformed
    lanes: list[ClaimedLane]


def _claimed(reply: list[Any]) -> Claimed:
    now, next_due, dropped, *words = reply
    lanes = zip(*(words[n::5] for n in range(5)), strict=True)
    return Claimed(now, next_due, dropped, list(map(ClaimedLane._make, lanes)))


CLAIM = Script(
    LIBRARY,
    "webhooks/claim",
    keys=("queue", "bodies", "due", "leased", "state"),
    arguments=ClaimArguments,
    parts=("clock", "ids", "webhooks/queue"),
    reply=_claimed,
    writes=False,
)


class RecordResultArguments(Arguments):
    """The result of a delivery."""

    session_id: bytes
    event_id: bytes
    lease: bytes  # of the claim
    failure: str | None  # e.g. "HTTP_503"; None: it was delivered
    delay_ms: int  # until it is tried again
    retry_ms: int  # for which that is done
    max_dead: int  # deliveries that are parked at most


def _text(reply: bytes) -> str:
    return reply.decode()


RECORD_RESULT = Script(
    LIBRARY,
    "webhooks/record_result",
    keys=("queue", "bodies", "due", "leased", "dead", "state"),
    arguments=RecordResultArguments,
    parts=("clock", "ids", "webhooks/queue"),
    reply=_text,  # done, failed, dead or late
    writes=False,
)


class DeadLettersArguments(Arguments):
    """A page of the deliveries that are parked."""

    offset: int
    limit: int


class DeadLetters(NamedTuple):
    """How many deliveries are parked, and those of the page."""

    total: int
    page: list[tuple[bytes, bytes, bytes]]  # event id, since when (epoch ms), body


def _dead_letters(reply: list[Any]) -> DeadLetters:
    total, *words = reply
    return DeadLetters(total, list(zip(words[::3], words[1::3], words[2::3], strict=True)))


DEAD_LETTERS = Script(
    LIBRARY,
    "webhooks/dead_letters",
    keys=("bodies", "dead"),
    arguments=DeadLettersArguments,
    reply=_dead_letters,
    writes=False,
)


class ReplayArguments(Arguments):
    """The oldest ``limit`` deliveries that are parked, or those of some events if that is 0."""

    limit: int
    event_ids: tuple[str, ...]


class Replayed(NamedTuple):
    """How many parked deliveries were looked at, and how many of those were put back."""

    seen: int
    replayed: int


REPLAY = Script(
    LIBRARY,
    "webhooks/replay",
    keys=("queue", "bodies", "due", "leased", "dead", "state"),
    arguments=ReplayArguments,
    parts=("clock", "ids", "webhooks/queue"),
    reply=Replayed._make,
)


def _sizes(reply: list[int]) -> QueueSizes:
    return QueueSizes(*reply)


SIZES = Script(
    LIBRARY,
    "webhooks/sizes",
    keys=("queue", "dead", "state"),
    arguments=NoArguments,
    reply=_sizes,
    writes=False,
)

DROP = Script(
    LIBRARY,
    "webhooks/drop",
    keys=("queue", "bodies", "due", "leased", "dead", "state"),
    arguments=NoArguments,
    reply=int,  # how many keys there were
)
