"""The records of webhooks and deliveries in Redis (keys.py)."""

from contextlib import suppress

import msgspec

from session_service.domain.errors import RecordUnreadable, ValidationFailed
from session_service.domain.events import Event, EventId
from session_service.domain.ids import shard_of_session
from session_service.domain.signing import read_secret
from session_service.domain.webhooks import DeadLetter, Target, Webhook
from session_service.store.records import unpack_event


class _Record(msgspec.Struct, frozen=True):
    """The JSON in the record of a webhook."""

    target: Target
    is_from_settings: bool


def pack_webhook(target: Target, *, is_from_settings: bool) -> bytes:
    """Encode the JSON of a webhook, e.g. ``{"target": {…}, "is_from_settings": false}``."""
    return msgspec.json.encode(_Record(target, is_from_settings))


def unpack_webhook(webhook_id: str, value: bytes) -> Webhook:
    """Decode a webhook, e.g. ``1 1764000000000 {"target": …}``; raises RecordUnreadable."""
    try:
        head, _, json = value.partition(b" {")
        is_enabled, created_at, *overlap = head.split(b" ")
        record = msgspec.json.decode(b"{" + json, type=_Record)
        read_secret(record.target.secret)
        created, overlap_until = int(created_at), int(overlap[0]) if overlap else None
    except (ValueError, RecursionError, ValidationFailed) as error:
        raise RecordUnreadable from error
    if shard_of_session(webhook_id) is None:
        raise RecordUnreadable("its id is none of ours")
    return Webhook(
        webhook_id,
        record.target,
        created,
        record.is_from_settings,
        is_enabled == b"1",
        overlap_until,
    )


def unpack_queued_event(event_id: bytes, body: bytes) -> Event:
    """Decode an event, whose id is e.g. ``1764000000000-3f-0``; raises RecordUnreadable."""
    try:
        position = EventId.parse(event_id.decode(), "event")
    except (UnicodeError, ValidationFailed) as error:
        raise RecordUnreadable from error
    return unpack_event(position, body)


def unpack_letter(event_id: bytes, since: bytes, body: bytes) -> DeadLetter:
    """Decode a dead letter; it has no event if that is unreadable.

    ``body`` is e.g. ``3 1764000000000 HTTP_503 renewed …``.
    """
    failures, last, event = 0, b"UNREADABLE", None
    with suppress(ValueError, RecordUnreadable):
        count, _, last, text = body.split(b" ", 3)
        failures = int(count)
        event = unpack_queued_event(event_id, text)
    return DeadLetter(
        event_id.decode(errors="backslashreplace"),
        event,
        failures,
        last.decode(errors="backslashreplace"),
        int(float(since)),
    )
