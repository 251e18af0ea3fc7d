"""From bytes to request types, strictly.

What is wrong with them becomes a sentence that names the field and what is allowed.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType, inspect

from session_service.domain.budgets import BODY_RATE, BODY_SECONDS
from session_service.domain.errors import ServiceError, ValidationFailed
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.admission import Admission
from session_service.web.errors import (
    BadRequest,
    InvalidJson,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from session_service.web.requests import MAX_METADATA_BYTES, MAX_MOMENT, describe

# The largest valid body: a message of 4,000 characters written as escapes (12 bytes each), its
# metadata (six bytes for each of its own), and ten attachments of 10 KiB.
MAX_BODY_BYTES = 256 * 1024

_BODY_ALLOWED = (
    f"{BODY_SECONDS:g} seconds, at {BODY_RATE:,} bytes a second or more; less if too many bodies"
    " arrive slowly at once."
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_JSON_NAMES = {
    "str": "a string", "int": "a number", "float": "a number", "bool": "a boolean",
    "null": "null", "array": "an array", "object": "an object",
}  # fmt: skip


async def read_body(request: web.BaseRequest, admission: Admission) -> bytes:
    """Read the bytes of a JSON body, from the second time on those read before.

    Raises UnsupportedMediaType, PayloadTooLarge, RequestTimeout, BadRequest or Overloaded.
    """
    if "Content-Type" in request.headers and request.content_type != "application/json":
        raise UnsupportedMediaType
    return await read_bytes(request, admission)


async def read_bytes(request: web.BaseRequest, admission: Admission) -> bytes:
    """Read a body of any type; raises PayloadTooLarge, RequestTimeout, BadRequest or Overloaded.

    Raises ConnectionResetError if the client goes away in the middle of it.
    """
    try:
        if request.content.is_eof():  # it has come with the head, as small ones do
            return await request.read()
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with admission.body(request.content):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge(MAX_BODY_BYTES) from None
    except TimeoutError:
        raise RequestTimeout("body", _BODY_ALLOWED) from None
    except web.RequestPayloadError as error:
        raise BadRequest("The body is cut off, or not in the encoding it declares.") from error
    except RuntimeError:  # aiohttp's, where the client had gone before the body was asked for
        if request.transport is not None:
            raise
        raise ConnectionResetError from None


class RequestDecoder:
    """Decodes one request type, a JSON body or a query."""

    def __init__(self, request_type: Any, policy: TimeoutPolicy) -> None:
        self._type = request_type
        self._json = msgspec.json.Decoder(request_type)
        info = inspect.type_info(request_type)
        self._allowed = dict(_describe(info, policy))
        self._lists = {path.removesuffix("[]") for path in self._allowed if path.endswith("[]")}
        self._headers = headers_of(request_type)

    def body(self, body: bytes) -> Any:
        """Decode a body; raises InvalidJson or ValidationFailed."""
        try:
            return self._json.decode(body.decode())  # msgspec leaves what it skips unchecked
        except msgspec.ValidationError as error:
            raise self._problem(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidJson(f"It is not JSON: {error}") from None
        except RecursionError:
            raise InvalidJson("It is nested too deeply.") from None

    def query(self, request: web.BaseRequest) -> Any:
        """Decode a query, and headers that stand for a part of it; raises ValidationFailed."""
        given: dict[str, Any] = dict(request.query)
        for name in self._lists & given.keys():
            given[name] = ",".join(request.query.getall(name)).split(",")
        for name, header in self._headers.items():
            if header in request.headers:
                given[name] = request.headers[header]
        try:
            return msgspec.convert(given, self._type, strict=False)
        except msgspec.ValidationError as error:
            raise self._problem(str(error)) from None

    def _problem(self, problem: str) -> ServiceError:
        """Say what msgspec says as a sentence about a field."""
        what, _, where = problem.partition(" - at `$")
        path = where.rstrip("`").removeprefix(".")
        if missing := re.search(r"missing required field `(\w+)`", what):
            field = f"{path}.{missing[1]}" if path else missing[1]
            return ValidationFailed(field, f"is required: it must be {self._allowed_at(field)}")
        if "unknown field" in what:
            name = re.search(r"`(\w{1,64})`", what)
            known = ", ".join(self._allowed)
            return ValidationFailed(
                name[1] if name else "A parameter", f"is not known here: allowed are {known}"
            )
        if not path:
            return InvalidJson("It is not an object.")
        got = re.search(r"got `(\w+)`", what)
        is_what = f", not {_JSON_NAMES[got[1]]}" if got and got[1] in _JSON_NAMES else ""
        return ValidationFailed(path, f"must be {self._allowed_at(path)}{is_what}")

    def _allowed_at(self, path: str) -> str:
        """Return what is allowed at a path, or at the nearest one around it that is described."""
        path = re.sub(r"\[[^]]*\]", "[]", path)
        while path not in self._allowed and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._allowed.get(path, "valid")


def headers_of(request_type: Any) -> dict[str, str]:
    """Return the headers in which fields of a query can come, too, by the fields' names."""
    info = inspect.type_info(request_type)
    return {
        field.encode_name: field.type.extra["header"]
        for field in (info.fields if isinstance(info, inspect.StructType) else ())
        if isinstance(field.type, inspect.Metadata) and field.type.extra
    }


def _describe(
    node: inspect.Type, policy: TimeoutPolicy, path: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the path of each field within a type, and its description."""
    match node:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            if extra and "description" in extra:
                yield path, describe(extra["description"], policy)
            yield from _describe(inner, policy, path)
        case inspect.UnionType(types=types):
            for member in types:
                yield from _describe(member, policy, path)
        case inspect.StructType(fields=fields):
            for field in fields:
                name = f"{path}.{field.encode_name}" if path else field.encode_name
                yield from _describe(field.type, policy, name)
        case inspect.ListType(item_type=item):
            yield from _describe(item, policy, f"{path}[]")


def compact_metadata(value: dict[str, Any] | UnsetType) -> bytes:
    """Write metadata as compact JSON; raises ValidationFailed where it is too large."""
    if value is UNSET:
        return b"{}"
    json = msgspec.json.encode(value)
    if len(json) > MAX_METADATA_BYTES:
        raise ValidationFailed(
            "metadata",
            f"must be an object of at most {MAX_METADATA_BYTES:,} bytes as compact UTF-8 JSON,"
            f" and is {len(json):,}",
        )
    return json


def compact_attachments(value: list[dict[str, Any]] | UnsetType) -> bytes | None:
    """Write attachments as compact JSON, each checked; raises ValidationFailed."""
    if value is UNSET:
        return None
    for n, attachment in enumerate(value):
        for name, required in (("type", True), ("url", True), ("name", False)):
            given = attachment.get(name)
            if name not in attachment and not required:
                continue
            if not isinstance(given, str) or (required and not given):
                is_required = "is required: it " if name not in attachment else ""
                raise ValidationFailed(
                    f"attachments[{n}].{name}",
                    f"{is_required}must be a string{' that is not empty' if required else ''}",
                )
    return msgspec.json.encode(value)


def moment(text: str | UnsetType, field: str, *, up: bool) -> int | None:
    """Read epoch milliseconds, or an ISO 8601 time (UTC where it names no offset).

    A time between two milliseconds is rounded ``up`` or down, so that it stays an exact bound.
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
        ms = MAX_MOMENT + 1
    if ms > MAX_MOMENT:
        raise ValidationFailed(
            field,
            "must be epoch milliseconds, or an ISO 8601 time such as 2026-01-15T10:30:45.123Z",
        )
    return ms
