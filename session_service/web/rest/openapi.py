"""The API document, OpenAPI 3.1: made from the route table and the types, so it cannot drift."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from session_service import __version__
from session_service.api.base import describe
from session_service.api.errors import Error
from session_service.api.events import EVENT_DATA
from session_service.api.health import Unhealthy
from session_service.api.messages import Attachment
from session_service.domain.errors import StoreUnavailable
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.decoding import headers_of
from session_service.web.http.errors import ERRORS, RateLimited
from session_service.web.http.response import REQUEST_ID_HEADER
from session_service.web.rest.route import IDEMPOTENCY_KEY, Route
from session_service.web.rest.sessions import create_session, end_session, get_sessions_health
from session_service.web.rest.table import ROUTES
from session_service.web.rest.webhooks import WEBHOOKS, create_webhook
from session_service.web.streaming.sse import CONTENT_TYPE as STREAM_TYPE

_CREATED: dict[Any, tuple[str, ...]] = {  # the ids in what is created, its own first
    create_session: ("sessionId", "channelId"),
    create_webhook: ("webhookId",),
}
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


_IDS = {
    "sessionId": "ID of the session",
    "channelId": "The session's ID: the two names mean the same",
    "webhookId": "ID of the webhook",
}
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


def document(policy: TimeoutPolicy) -> dict[str, Any]:
    """Write the document of a service with these timeout rules."""
    components = _schemas_of([Error, Unhealthy, Attachment, *EVENT_DATA, *_body_types()], policy)
    queries = _schemas_of([route.query for route in ROUTES if route.query], policy)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in ROUTES:
        paths[route.path][route.method.lower()] = _operation(route, queries)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sessions API",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost:3000", "description": "Local development server"}],
        "tags": [{"name": n} for n in ("messaging", "events", "webhooks", "probes")],
        "paths": dict(paths),
        "components": {"schemas": components},
    }


def _body_types() -> Iterator[Any]:
    for route in ROUTES:
        yield from filter(None, (route.response, route.body))


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
        "operationId": _camel(route.handler.__name__),
        "summary": route.summary,
        "description": route.description,
        "tags": [_tag(route)],
        "security": [],
    }
    parameters: list[dict[str, Any]] = []
    if route.parameter:
        parameters.append(
            {
                "name": route.parameter,
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": _IDS[route.parameter]
                + (" to end" if route.handler is end_session else ""),
            }
        )
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
    if route.takes_key:
        parameters.append(_KEY)
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": _json(route.body)}
    operation["responses"] = _responses(route)
    return operation


def _tag(route: Route) -> str:
    if route.streams:
        return "events"
    if route.path.startswith(WEBHOOKS):
        return "webhooks"
    return "messaging" if route.path.startswith("/api/") else "probes"


def _responses(route: Route) -> dict[str, Any]:
    success: dict[str, Any] = {
        "description": route.answer,
        "headers": {REQUEST_ID_HEADER: _header("The id of the request, as in the log")},
        "content": _stream(route.response) if route.streams else _json(route.response),
    }
    if ids := _CREATED.get(route.handler):
        success["headers"]["Location"] = _header(f"The address of the {ids[0].removesuffix('Id')}")
        success["links"] = {
            _camel(other.handler.__name__): {
                "operationId": _camel(other.handler.__name__),
                "parameters": {other.parameter: f"$response.body#/{other.parameter}"},
            }
            for other in ROUTES
            if other.parameter in ids
        }
    responses: dict[str, Any] = {str(route.status): success}
    by_status: dict[int, list[Any]] = defaultdict(list)
    for error in route.all_errors:
        by_status[ERRORS[error].status].append(ERRORS[error])
    for status, answers in sorted(by_status.items()):
        is_health = (
            route.handler is get_sessions_health and status == ERRORS[StoreUnavailable].status
        )
        response: dict[str, Any] = {
            "description": "; ".join(f"{a.description} (`{a.code}`)" for a in answers)
            if len(answers) > 1
            else answers[0].description,
            "content": _json(Unhealthy, Error) if is_health else _json(Error),
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


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)
