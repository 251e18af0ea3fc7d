"""Fields of requests, from their JSON form to the form that the domain takes."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from session_service.api.base import MAX_TIMESTAMP_MS
from session_service.api.messages import SendMessage
from session_service.api.sessions import TimeoutSettings
from session_service.domain.budgets import ATTACHMENT_BYTES, ATTACHMENTS_BYTES, METADATA_BYTES
from session_service.domain.errors import ValidationFailed
from session_service.domain.messages import NewMessage
from session_service.domain.timeouts import TimeoutChange, TimeoutPolicy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def timeout_change(
    settings: TimeoutSettings, policy: TimeoutPolicy, path: str = ""
) -> TimeoutChange:
    """Return the change that settings ask for; raises ValidationFailed.

    ``path`` is the prefix of their fields in errors, e.g. ``timeoutConfig.``.
    """
    return policy.change(
        timeout=settings.timeout_minutes,
        auto_renew=settings.auto_renew,
        max_duration=settings.max_duration_minutes,
        warning=settings.warning_threshold_minutes,
        path=path,
    )


def compact_metadata(value: dict[str, Any] | None) -> bytes:
    """Return metadata as compact JSON; raises ValidationFailed if it is too large."""
    return b"{}" if value is None else _compact(value, "metadata", METADATA_BYTES)


def compact_attachments(value: list[dict[str, Any]] | None) -> bytes | None:
    """Check attachments and return them as compact JSON; raises ValidationFailed."""
    if value is None:
        return None
    size = 0
    written = []
    for n, attachment in enumerate(value):
        field = f"attachments[{n}]"
        _check_attachment(attachment, field)
        written.append(_compact(attachment, field, ATTACHMENT_BYTES))
        size += len(written[-1])
    if size > ATTACHMENTS_BYTES:
        raise ValidationFailed(
            "attachments", f"must have at most {ATTACHMENTS_BYTES:,} bytes together, not {size:,}"
        )
    return b"[" + b",".join(written) + b"]"


def _check_attachment(attachment: dict[str, Any], field: str) -> None:
    """Check the members of an attachment that have a type; null counts as absent."""
    if attachment.get("type") is None and attachment.get("contentType") is None:
        raise ValidationFailed(
            f"{field}.type", "or contentType is required: it must be a string that is not empty"
        )
    if attachment.get("url") is None:
        raise ValidationFailed(f"{field}.url", "is required: it must be a string that is not empty")
    for name in ("type", "contentType", "url", "name"):
        value = attachment.get(name)
        if value is not None and not (isinstance(value, str) and (value or name == "name")):
            empty = "" if name == "name" else " that is not empty"
            raise ValidationFailed(f"{field}.{name}", f"must be a string{empty}")


def _compact(value: dict[str, Any], field: str, limit: int) -> bytes:
    json = msgspec.json.encode(value)
    if len(json) > limit:
        raise ValidationFailed(
            field,
            f"must be an object of at most {limit:,} bytes as compact UTF-8 JSON,"
            f" and is {len(json):,}",
        )
    return json


def parse_timestamp(text: str | UnsetType, field: str, *, up: bool) -> int | None:
    """Return a time as epoch milliseconds, or None if it is UNSET.

    ``text`` is epoch milliseconds, such as ``1768473045123``, or an ISO 8601 time, such as
    ``2026-01-15T10:30:45.123Z`` (UTC unless it has an offset). A time between two milliseconds is
    rounded ``up`` or down, so that it stays an exact bound. Raises ValidationFailed.
    """
    if text is UNSET:
        return None
    try:
        if re.fullmatch(r"\d{1,16}", text, re.ASCII):
            ms = int(text)
        else:
            time = datetime.fromisoformat(text.upper())
            since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
            ms = max(0, -(since // -_MILLISECOND) if up else since // _MILLISECOND)
    except (ValueError, OverflowError):
        ms = MAX_TIMESTAMP_MS + 1
    if ms > MAX_TIMESTAMP_MS:
        raise ValidationFailed(
            field,
            "must be epoch milliseconds, or an ISO 8601 time such as 2026-01-15T10:30:45.123Z",
        )
    return ms


def lower(uuid: str | UnsetType | None) -> str | None:
    """Return a UUID in lower case, or None if there is none."""
    return uuid.lower() if isinstance(uuid, str) else None


def message_of(body: SendMessage) -> NewMessage:
    """Return the message in a request; raises ValidationFailed for its metadata or attachments."""
    return NewMessage(
        content=body.content,
        author_id=lower(body.author_id),
        metadata=compact_metadata(body.metadata),
        attachments=compact_attachments(body.attachments),
    )
