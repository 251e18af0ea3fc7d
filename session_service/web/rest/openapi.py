"""The API document, OpenAPI 3.1: made from the route table and the types, so it cannot drift."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from session_service import __version__
from session_service.api.base import describe
from session_service.api.errors import Error
from session_service.api.events import EVENT_DATA
from session_service.api.messages import Attachment
from session_service.domain.errors import StoreUnavailable
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.decoding import headers_of
from session_service.web.http.errors import ERRORS, RateLimited
from session_service.web.http.response import REQUEST_ID_HEADER
from session_service.web.rest.route import IDEMPOTENCY_KEY, Route, Tag
from session_service.web.rest.table import ROUTES
from session_service.web.streaming.sse import CONTENT_TYPE as STREAM_TYPE

_REF = "#/components/schemas/{name}"
_INTRODUCTION = """\
Conversation sessions: created for a user and an agent, kept alive by activity, expired, or ended.

- Every error has one shape; `details` is always a string.
- Times are ISO 8601 in UTC with milliseconds, by the store's clock. Durations are kept to the \
millisecond.
- UUIDs are taken in either case and given in lower case. Members of a body that are not known are \
passed over.
- An expired session answers 410 until its retention ends, then 404. An ended one answers 404.
- A renewal, and every message, counts as activity: it sets `lastActivity`.
- With an `Idempotency-Key`, what is asked for happens once: the same request with the same key \
gets the same answer for 24 hours.
- `X-Request-ID` is taken from the request, or made, and returned.
"""

_KEY = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
    "description": "Any text, such as a UUID, that no other request has",
}


def document(policy: TimeoutPolicy, routes: Sequence[Route] = ROUTES) -> dict[str, Any]:
    """Return the document of a service with these timeout rules."""
    components = _schemas_of([Error, Attachment, *EVENT_DATA, *_body_types(routes)], policy)
    queries = _schemas_of([route.query for route in routes if route.query], policy)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        operation = _operation(route, queries)
        operation["responses"] = _responses(route, routes)
        paths[route.path][route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sessions API",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost:3000", "description": "Local development server"}],
        "tags": [{"name": tag} for tag in Tag],
        "paths": dict(paths),
        "components": {"schemas": components},
    }


def _body_types(routes: Sequence[Route]) -> Iterator[Any]:
    for route in routes:
        yield from filter(None, (route.response, route.body, route.unhealthy_body))


def _schemas_of(types: list[Any], policy: TimeoutPolicy) -> dict[str, Any]:
    """Return the JSON Schema of each type, and of the types in it, by name.

    Those of queries stay out of the document's components: an operation lists their properties
    as parameters, and code generators would write every enum of theirs twice.
    """
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    return {name: _filled(schema, policy) for name, schema in schemas.items()}


def _filled(node: Any, policy: TimeoutPolicy) -> Any:
    """Fill what depends on the settings: braces in descriptions and bounds."""
    match node:
        case {"oneOf": list(), "type": str(), **rest}:  # the alternatives have types of their own
            return _filled(rest | {"oneOf": node["oneOf"]}, policy)
        case {"description": str(description), **rest}:
            return {"description": describe(description, policy), **_filled(rest, policy)}
        case dict():
            return {key: _filled(value, policy) for key, value in node.items()}
        case list():
            return [_filled(value, policy) for value in node]
        case str() if node.startswith(r"\A"):  # a pattern, which JSON Schema writes with ^ and $
            return f"^{node.removeprefix(chr(92) + 'A').removesuffix(chr(92) + 'Z')}$"
        case str() if re.fullmatch(r"\{\w+\}", node):
            return getattr(policy, node[1:-1])
        case _:
            return node


def _operation(route: Route, queries: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.title,
        "description": route.description,
        "tags": [route.tag],
        "security": [],
    }
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": route.id_descriptions.get(name, f"ID of the {_noun(name)}"),
        }
        for name in route.ids
    ]
    if route.query:
        schema = queries[route.query.__name__]
        parameters += [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": property_schema,
            }
            for name, property_schema in schema["properties"].items()
        ]
        parameters += [
            {
                "name": header,
                "in": "header",
                "schema": schema["properties"][name],
                "description": f"stands for {name}, and goes before it",
            }
            for name, header in headers_of(route.query).items()
        ]
    if route.takes_idempotency_key:
        parameters.append(_KEY)
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": _json(route.body)}
    return operation


def _responses(route: Route, routes: Sequence[Route]) -> dict[str, Any]:
    success: dict[str, Any] = {
        "description": route.success,
        "headers": {REQUEST_ID_HEADER: _header("The id of the request, as in the log")},
        "content": _stream(route.response) if route.streams else _json(route.response),
    }
    if route.created:
        location = _header(f"The address of the {_noun(route.created[0])}")
        success["headers"]["Location"] = location
        success["links"] = {
            other.operation_id: {
                "operationId": other.operation_id,
                "parameters": {name: f"$response.body#/{name}" for name in other.ids},
            }
            for other in routes
            if other.ids and set(other.ids) <= set(route.created)
        }
    responses: dict[str, Any] = {str(route.status): success}
    by_status: dict[int, list[Any]] = defaultdict(list)
    for error in route.all_errors:
        by_status[ERRORS[error].status].append(ERRORS[error])
    for status, answers in sorted(by_status.items()):
        bodies: tuple[type[msgspec.Struct], ...] = (Error,)
        if route.unhealthy_body and status == ERRORS[StoreUnavailable].status:
            bodies = (route.unhealthy_body, Error)
        response: dict[str, Any] = {
            "description": "; ".join(f"{a.description} (`{a.code}`)" for a in answers)
            if len(answers) > 1
            else answers[0].description,
            "content": _json(*bodies),
        }
        if answers[0].headers or status == ERRORS[RateLimited].status:
            response["headers"] = {"Retry-After": _header("Seconds after which to try again")}
        responses[str(status)] = response
    return responses


def _json(*of: type[msgspec.Struct]) -> dict[str, Any]:
    schemas_of = [{"$ref": _REF.format(name=each.__name__)} for each in of]
    schema: dict[str, Any] = {"anyOf": schemas_of} if len(of) > 1 else schemas_of[0]
    return {"application/json": {"schema": schema}}


def _stream(of: type[msgspec.Struct]) -> dict[str, Any]:
    """Describe a stream by the schema of its events' data.

    OpenAPI 3.1 describes no sequence: ``itemSchema`` is of 3.2, which generators do not read yet.
    """
    return {STREAM_TYPE: {"schema": {"$ref": _REF.format(name=of.__name__)}}}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _noun(id_name: str) -> str:
    """Return the kind of resource that an id names: ``webhookId`` is the id of a webhook."""
    return id_name.removesuffix("Id")
