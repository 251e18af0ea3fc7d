"""The API document, OpenAPI 3.1, served at ``/openapi.json``.

It is generated from the route table and the types of ``api/``, so it cannot drift from the code. A
new route, path id or tag needs no change here. Credentials and scopes are in it only if access
control is on.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from session_service import __version__
from session_service.api.base import Request, describe
from session_service.api.errors import Error, ErrorCode
from session_service.api.events import EVENT_DATA
from session_service.api.messages import Attachment
from session_service.domain.errors import RateLimited, ServiceError, StoreUnavailable
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.authentication import API_KEY, PARAMETER
from session_service.web.http.decoding import headers_of
from session_service.web.http.errors import ERRORS
from session_service.web.http.limits import LIMIT_FIELDS
from session_service.web.http.response import REQUEST_ID_HEADER
from session_service.web.rest.route import IDEMPOTENCY_KEY, Public, Route, Tag
from session_service.web.rest.table import ROUTES
from session_service.web.streaming.sse import CONTENT_TYPE as STREAM_TYPE

_REF = "#/components/schemas/{name}"
_INTRODUCTION = """\
Conversation sessions, each between a user and an agent. Activity keeps a session alive; without \
activity it expires. It can also be ended.

- All errors have the same shape; `details` is always a string.
- Times are ISO 8601 in UTC with milliseconds, by the store's clock. Durations are exact to the \
millisecond.
- UUIDs are accepted in either case and returned in lower case. Unknown members of a body are \
ignored.
- Requests for an expired session get 410 until its retention ends, then 404. Those for an ended \
session get 404.
- Renewals, heartbeats and messages count as activity: they set `lastActivity`.
- A request with an `Idempotency-Key` is executed once: the same request with the same key gets \
the same response for 24 hours.
- `X-Request-ID` is copied from the request, or generated, and returned.
"""

_KEY_PARAMETER = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
    "description": "Any text that is unique to the request, such as a UUID",
}

_SECURITY_SCHEMES = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": str(API_KEY),
        "description": "An API key, for example of a server",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's JWT, a session token, or an API key",
    },
    "streamToken": {
        "type": "apiKey",
        "in": "query",
        "name": PARAMETER,
        "description": "A session token, for an EventSource, which cannot send headers",
    },
}
_LIMIT_HEADERS = dict(
    zip(
        LIMIT_FIELDS,
        (
            'What is left of the limit, e.g. `"user";r=41;t=1`; absent if no limit applied',
            'The limit that the request counts towards, e.g. `"user";q=100;w=60`',
        ),
        strict=True,
    )
)
_ERROR_HEADERS = {
    "Retry-After": "Seconds to wait before trying again",
    "WWW-Authenticate": "The scheme of the credential that is missing or not valid",
}


def document(
    policy: TimeoutPolicy,
    routes: Sequence[Route] = ROUTES,
    *,
    has_access: bool = False,
    has_limits: bool = False,
) -> dict[str, Any]:
    """Return the document of a service with these timeout rules.

    ``has_access`` is whether access control is on, and ``has_limits`` whether requests are limited.
    """
    types = [Error, Attachment, *EVENT_DATA, *_body_types(routes)]
    components: dict[str, Any] = {"schemas": _schemas_of(types, policy)}
    if has_access:
        components["securitySchemes"] = _SECURITY_SCHEMES
    queries = _schemas_of([route.query for route in routes if route.query], policy)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        operation = _operation(route, queries)
        if has_access:
            operation |= _needs(route)
        extra = route.access_errors if has_access else ()
        is_limited = has_limits and not isinstance(route.access, Public)
        if is_limited and not route.streams:
            extra += (RateLimited,)
        responses = operation["responses"] = _responses(route, routes, extra)
        for response in responses.values() if is_limited else ():
            headers = response.get("headers", {})
            response["headers"] = headers | {n: _header(text) for n, text in _LIMIT_HEADERS.items()}
        paths[route.path][route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sessions API",
            "version": __version__,
            "description": f"{_INTRODUCTION}\n## Error codes\n\n{_error_codes(has_access)}",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that has this document"}],
        "tags": [{"name": tag} for tag in Tag],
        "paths": dict(paths),
        "components": components,
    }


def _error_codes(has_access: bool) -> str:
    """Return a Markdown table of all error codes, each with its status and its causes."""
    causes: dict[ErrorCode, list[str]] = defaultdict(list)
    for spec in ERRORS.values():
        if has_access or not spec.of_access:
            causes[spec.code].append(spec.description)
    rows = [
        f"| `{code}` | {code.status} | {'; '.join(causes[code])} |"
        for code in ErrorCode
        if causes[code]
    ]
    return "\n".join(["| code | status | cause |", "|---|---|---|", *rows, ""])


def _body_types(routes: Sequence[Route]) -> Iterator[Any]:
    for route in routes:
        yield from filter(None, (route.response, route.body, route.unhealthy_body))


def _schemas_of(types: list[Any], policy: TimeoutPolicy) -> dict[str, Any]:
    """Return the JSON Schemas of the types and of all types in them, by name.

    The document's components leave out the schemas of queries: operations list their properties as
    parameters, and code generators would write each of their enums twice.
    """
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    return {name: _filled(schema, policy) for name, schema in schemas.items()}


def _filled(node: Any, policy: TimeoutPolicy) -> Any:
    """Return a schema with the limits of the policy in place of names in braces.

    ``{"minimum": "{min_timeout}"}`` becomes ``{"minimum": 5}``. Also writes patterns in the
    syntax of JavaScript, as JSON Schema requires.
    """
    match node:
        case {"oneOf": list(), "type": str(), **rest}:  # each alternative has its own type
            return _filled(rest | {"oneOf": node["oneOf"]}, policy)
        case {"description": str(description), **rest}:
            return {"description": describe(description, policy), **_filled(rest, policy)}
        case dict():
            return {key: _filled(value, policy) for key, value in node.items()}
        case list():
            return [_filled(value, policy) for value in node]
        case str() if node.startswith(r"\A"):
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
        "security": [],  # no credential is needed
    }
    parameters = _path_parameters(route)
    if route.query:
        parameters += _query_parameters(route.query, queries[route.query.__name__])
    if route.takes_idempotency_key:
        parameters.append(_KEY_PARAMETER)
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": _json(route.body)}
    return operation


def _needs(route: Route) -> dict[str, Any]:
    """Return the members of an operation that tell the credential and the scope it needs.

    Schemes without OAuth list scopes since OpenAPI 3.1; most programs do not show them, so the
    description has the scope, too.
    """
    if isinstance(route.access, Public):
        return {}
    schemes = ("apiKey", "bearer", "streamToken") if route.streams else ("apiKey", "bearer")
    needs = " ".join(filter(None, (f"Needs the scope `{route.access}`.", route.access_note)))
    return {
        "description": f"{route.description}\n\n{needs}",
        "security": [{scheme: [str(route.access)]} for scheme in schemes],
    }


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": route.id_descriptions.get(name, f"ID of the {_noun(name)}"),
        }
        for name in route.ids
    ]


def _query_parameters(query: type[Request], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a query: its fields, and the headers that can replace them."""
    fields: dict[str, Any] = schema["properties"]
    in_query = [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": field_schema,
        }
        for name, field_schema in fields.items()
    ]
    in_header = [
        {
            "name": header,
            "in": "header",
            "schema": fields[name],
            "description": f"Replaces the parameter {name}, and takes precedence over it",
        }
        for name, header in headers_of(query).items()
    ]
    return in_query + in_header


def _responses(
    route: Route, routes: Sequence[Route], extra: tuple[type[ServiceError], ...]
) -> dict[str, Any]:
    successes = {route.status: route.success, **route.also}
    responses = {
        str(status): _success(route, successes[status], routes) for status in sorted(successes)
    }
    errors_by_status: dict[int, list[Any]] = defaultdict(list)
    for error in dict.fromkeys(route.all_errors + extra):
        errors_by_status[ERRORS[error].status].append(ERRORS[error])
    for status, errors in sorted(errors_by_status.items()):
        response: dict[str, Any] = {
            "description": "; ".join(f"{each.description} (`{each.code}`)" for each in errors)
            if len(errors) > 1
            else errors[0].description,
            "content": _json(Error),
        }
        if route.unhealthy_body and status == ERRORS[StoreUnavailable].status:
            response["content"] = _json(route.unhealthy_body, Error)
        headers = dict(errors[0].headers)
        if status == ERRORS[RateLimited].status:
            headers["Retry-After"] = ""
        if headers:
            response["headers"] = {name: _header(_ERROR_HEADERS[name]) for name in headers}
        responses[str(status)] = response
    return responses


def _success(route: Route, description: str, routes: Sequence[Route]) -> dict[str, Any]:
    """Return the response of a success, with links to the operations on the new resource."""
    success: dict[str, Any] = {
        "description": description,
        "headers": {REQUEST_ID_HEADER: _header("The request's ID, which its log lines have, too")},
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
    return success


def _json(*types: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the content of a JSON body that has one of the types."""
    schemas = [{"$ref": _REF.format(name=each.__name__)} for each in types]
    schema: dict[str, Any] = {"anyOf": schemas} if len(schemas) > 1 else schemas[0]
    return {"application/json": {"schema": schema}}


def _stream(data: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the content of a stream: the schema of each event's data.

    OpenAPI 3.1 cannot describe a sequence. ``itemSchema`` of 3.2 can, but generators do not read it
    yet.
    """
    return {STREAM_TYPE: {"schema": {"$ref": _REF.format(name=data.__name__)}}}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _noun(id_name: str) -> str:
    """Return the resource that an id identifies, e.g. ``webhook`` for ``webhookId``."""
    return id_name.removesuffix("Id")
