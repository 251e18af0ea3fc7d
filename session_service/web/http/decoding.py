"""From bytes to request types, strictly.

What is wrong with them becomes a sentence that names the field and what is allowed.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType, inspect
from multidict import CIMultiDictProxy, MultiMapping, istr

from session_service.api.base import MAX_MOMENT, describe
from session_service.domain.budgets import (
    ATTACHMENT_BYTES,
    ATTACHMENTS_BYTES,
    BODY_BYTES,
    BODY_RATE,
    BODY_SECONDS,
    METADATA_BYTES,
)
from session_service.domain.errors import ServiceError, ValidationFailed
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.admission import Admission
from session_service.web.http.errors import (
    BadRequest,
    CodingNotSupported,
    ContentCodingNotSupported,
    InvalidJson,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from session_service.web.http.strict_json import check_depth, syntax_problem

_BODY_ALLOWED = (
    f"{BODY_SECONDS:g} seconds, at {BODY_RATE:,} bytes a second or more; less if too many bodies"
    " arrive slowly at once."
)

_CONTENT_TYPE = istr("Content-Type")
CONTENT_ENCODING = istr("Content-Encoding")
TRANSFER_ENCODING = istr("Transfer-Encoding")
_is_json_type = re.compile(
    r"\s*application/(?:[a-z0-9!#$&^_.-]+\+)?json\s*(?:;.*)?", re.ASCII | re.IGNORECASE
).fullmatch
_is_name = re.compile(r"\w{1,64}", re.ASCII).fullmatch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_JSON_NAMES = {
    "str": "a string", "int": "a number", "float": "a number", "bool": "a boolean",
    "null": "null", "array": "an array", "object": "an object",
}  # fmt: skip


def check_codings(headers: CIMultiDictProxy[str]) -> None:
    """Check how a body is encoded: it may be chunked, and must not be compressed.

    A few KB can decompress to GB, and no client of ours has to compress what is small. Raises
    ContentCodingNotSupported or CodingNotSupported.
    """
    codings = headers.getall(CONTENT_ENCODING, ())
    if codings and any(coding.strip().lower() != "identity" for coding in codings):
        raise ContentCodingNotSupported
    transfers = headers.getall(TRANSFER_ENCODING, ())
    if transfers and any(coding.strip().lower() != "chunked" for coding in transfers):
        raise CodingNotSupported


async def read_body(request: web.BaseRequest, admission: Admission) -> bytes:
    """Read the bytes of a JSON body, from the second time on those read before.

    A request without a body has nothing to declare. Raises UnsupportedMediaType, PayloadTooLarge,
    RequestTimeout, BadRequest or Overloaded.
    """
    if request.body_exists and not _is_json(request.headers.get(_CONTENT_TYPE, "")):
        raise UnsupportedMediaType
    return await read_bytes(request, admission)


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    return _is_json_type(content_type) is not None


async def read_bytes(
    request: web.BaseRequest, admission: Admission, limit: int = BODY_BYTES
) -> bytes:
    """Read a body of any type; raises PayloadTooLarge, RequestTimeout, BadRequest or Overloaded.

    Raises ConnectionResetError if the client goes away in the middle of it.
    """
    try:
        if request.content.is_eof():  # it has come with the head, as small ones do
            return await request.read()
        if (request.content_length or 0) > limit:  # said before a client sends it, if it asks
            raise PayloadTooLarge(limit)
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with admission.body(request.content):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge(BODY_BYTES) from None
    except TimeoutError:
        raise RequestTimeout("body", _BODY_ALLOWED) from None
    except web.RequestPayloadError as error:
        raise BadRequest("The body is cut off.") from error
    except ConnectionResetError as error:
        # The body keeps this error, whose traceback leads back to the body: a cycle of 25 objects.
        error.__traceback__ = None
        raise ConnectionResetError from None
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
        """Decode a body, which may have a byte order mark; raises InvalidJson, ValidationFailed."""
        body = body.removeprefix(BOM_UTF8)
        check_depth(body)
        text = ""
        try:
            text = body.decode()  # msgspec leaves what it skips unchecked
            return self._json.decode(text)
        except msgspec.ValidationError as error:
            raise self._problem(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise syntax_problem(text, str(error)) from None

    def query(self, request: web.BaseRequest) -> Any:
        """Decode a query, and headers that stand for a part of it; raises ValidationFailed."""
        query = request.query
        given: dict[str, Any] = dict(query)
        if len(given) < len(query):
            self._refuse_repeats(query)
        for name in self._lists & given.keys():
            given[name] = ",".join(query.getall(name)).split(",")
        for name, header in self._headers.items():
            if header in request.headers:
                given[name] = request.headers[header]
        try:
            return msgspec.convert(given, self._type, strict=False)
        except msgspec.ValidationError as error:
            raise self._problem(str(error)) from None

    def _refuse_repeats(self, query: MultiMapping[str]) -> None:
        """Raise ValidationFailed if a parameter that is not a list is given twice."""
        for name in query:
            if name not in self._lists and len(query.getall(name)) > 1:
                shown = name if _is_name(name) else "A parameter"
                raise ValidationFailed(shown, "must not be given more than once")

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
        if "out of range" in what and "[...]" in path:  # within metadata or an attachment
            return ValidationFailed(
                path.partition("[...]")[0],
                "has a number out of range: it must be at most 1.7e308, and have at most"
                " 4,300 digits",
            )
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


def compact_metadata(value: dict[str, Any] | None) -> bytes:
    """Write metadata as compact JSON; raises ValidationFailed if it is too large."""
    return b"{}" if value is None else _compact(value, "metadata", METADATA_BYTES)


def compact_attachments(value: list[dict[str, Any]] | None) -> bytes | None:
    """Write attachments as compact JSON, each checked; raises ValidationFailed."""
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
    """Check the members that all have; a member that is null counts as absent."""
    if attachment.get("type") is None and attachment.get("contentType") is None:
        raise ValidationFailed(
            f"{field}.type", "or contentType is required: it must be a string that is not empty"
        )
    if attachment.get("url") is None:
        raise ValidationFailed(f"{field}.url", "is required: it must be a string that is not empty")
    for name in ("type", "contentType", "url", "name"):
        given = attachment.get(name)
        if given is not None and not (isinstance(given, str) and (given or name == "name")):
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


def lower(uuid: str | UnsetType | None) -> str | None:
    """Return a UUID in lower case, or None if there is none."""
    return uuid.lower() if isinstance(uuid, str) else None
