"""The API document, as JSON and as YAML."""

import importlib
import json
from collections.abc import Callable
from typing import Any

from session_service.web.http.context import Endpoint
from session_service.web.http.response import BytesResponse, JsonResponse
from session_service.web.http.state import AppState
from session_service.web.pages.lazy import Lazy
from session_service.web.rest.openapi import document
from session_service.web.rest.route import Route


class YamlResponse(BytesResponse):
    """A response with a body of YAML (RFC 9512)."""

    __slots__ = ()

    content_type = "application/yaml"


def document_endpoints(state: AppState, routes: tuple[Route, ...]) -> dict[str, Endpoint]:
    """Return the endpoints of the document by path."""

    def describe() -> dict[str, Any]:
        return document(
            state.policy,
            routes,
            has_access=state.access is not None,
            has_limits=state.limits is not None,
        )

    return {
        "/openapi.json": _endpoint(JsonResponse, lambda: json.dumps(describe()).encode()),
        "/openapi.yaml": _endpoint(YamlResponse, lambda: to_yaml(describe())),
    }


def to_yaml(value: dict[str, Any]) -> bytes:
    """Return a value as YAML, with text of several lines in blocks.

    Importing PyYAML takes 13 ms, which the start does not wait for.
    """
    text: bytes = importlib.import_module("session_service.web.pages.yaml_text").to_yaml(value)
    return text


def _endpoint(response: type[BytesResponse], make: Callable[[], bytes]) -> Endpoint:
    body = Lazy(make)

    async def serve_document(*_: object) -> BytesResponse:
        return response(200, await body.get())

    return serve_document
