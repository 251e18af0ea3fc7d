"""Decodes bodies and queries into request types, strictly.

An error names the field, and says what is allowed there.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from aiohttp import web
from msgspec import inspect
from multidict import MultiMapping

from session_service.api.base import describe
from session_service.domain.errors import ServiceError, ValidationFailed
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.errors import InvalidJson
from session_service.web.http.strict_json import check_depth, syntax_problem

_type_info = cache(inspect.type_info)
_is_name = re.compile(r"\w{1,64}", re.ASCII).fullmatch

_JSON_NAMES = {
    "str": "a string", "int": "a number", "float": "a number", "bool": "a boolean",
    "null": "null", "array": "an array", "object": "an object",
}  # fmt: skip


class RequestDecoder:
    """Decodes one request type, a JSON body or a query."""

    def __init__(self, request_type: Any, policy: TimeoutPolicy) -> None:
        self._type = request_type
        self._json = msgspec.json.Decoder(request_type)
        self._allowed = dict(_describe(_type_info(request_type), policy))
        self._lists = {path.removesuffix("[]") for path in self._allowed if path.endswith("[]")}
        self._headers = headers_of(request_type)

    def body(self, body: bytes) -> Any:
        """Decode a body, which may have a byte order mark; raises InvalidJson, ValidationFailed."""
        body = body.removeprefix(BOM_UTF8)
        check_depth(body)
        text = ""
        try:
            text = body.decode()  # msgspec does not check the values that it skips
            return self._json.decode(text)
        except msgspec.ValidationError as error:
            raise self._problem(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise syntax_problem(text, str(error)) from None

    def query(self, request: web.BaseRequest) -> Any:
        """Decode a query, and the headers that replace parameters; raises ValidationFailed.

        Lists may be repeated or joined by commas: ``type=created,ended`` is ``type=created`` and
        ``type=ended``. The header ``Last-Event-ID`` replaces ``lastEventId``.
        """
        query = request.query
        values: dict[str, Any] = dict(query)
        if len(values) < len(query):
            self._refuse_repeats(query)
        for name in self._lists & values.keys():
            values[name] = ",".join(query.getall(name)).split(",")
        for name, header in self._headers.items():
            if header in request.headers:
                values[name] = request.headers[header]
        try:
            return msgspec.convert(values, self._type, strict=False)
        except msgspec.ValidationError as error:
            raise self._problem(str(error)) from None

    def _refuse_repeats(self, query: MultiMapping[str]) -> None:
        """Raise ValidationFailed if a parameter that is not a list is repeated."""
        for name in query:
            if name not in self._lists and len(query.getall(name)) > 1:
                shown = name if _is_name(name) else "A parameter"
                raise ValidationFailed(shown, "must not be given more than once")

    def _problem(self, problem: str) -> ServiceError:
        """Return the error for a message of msgspec.

        ``Expected `int`, got `str` - at `$.timeoutConfig.timeoutMinutes` `` becomes
        ``timeoutConfig.timeoutMinutes must be ..., not a string``.
        """
        reason, _, location = problem.partition(" - at `$")
        path = location.rstrip("`").removeprefix(".")
        if missing := re.search(r"missing required field `(\w+)`", reason):
            field = f"{path}.{missing[1]}" if path else missing[1]
            return ValidationFailed(field, f"is required: it must be {self._allowed_at(field)}")
        if "unknown field" in reason:
            name = re.search(r"`(\w{1,64})`", reason)
            known = ", ".join(self._allowed)
            return ValidationFailed(
                name[1] if name else "A parameter", f"is not known here: allowed are {known}"
            )
        if not path:
            return InvalidJson("It is not an object.")
        if "out of range" in reason and "[...]" in path:  # within metadata or an attachment
            return ValidationFailed(
                path.partition("[...]")[0],
                "has a number out of range: it must be at most 1.7e308, and have at most"
                " 4,300 digits",
            )
        got = re.search(r"got `(\w+)`", reason)
        not_this = f", not {_JSON_NAMES[got[1]]}" if got and got[1] in _JSON_NAMES else ""
        return ValidationFailed(path, f"must be {self._allowed_at(path)}{not_this}")

    def _allowed_at(self, path: str) -> str:
        """Return the description of a field, such as ``attachments[3].url``, or its parent's."""
        path = re.sub(r"\[[^]]*\]", "[]", path)
        while path not in self._allowed and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._allowed.get(path, "valid")


@cache
def headers_of(request_type: Any) -> dict[str, str]:
    """Return the headers that may replace parameters: ``{"lastEventId": "Last-Event-ID"}``."""
    info = _type_info(request_type)
    return {
        field.encode_name: field.type.extra["header"]
        for field in (info.fields if isinstance(info, inspect.StructType) else ())
        if isinstance(field.type, inspect.Metadata) and field.type.extra
    }


def _describe(
    node: inspect.Type, policy: TimeoutPolicy, path: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the path and the description of each field within a type.

    ``timeoutConfig.timeoutMinutes`` is such a path, and so is ``attachments[].url``.
    """
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
