"""``/openapi.json``: valid, complete, and true."""

import json
import subprocess
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from session_service.web.http.errors import ERRORS
from session_service.web.rest.route import Public, Route
from session_service.web.rest.table import ROUTES
from tests.support.processes import ROOT, ServiceProcess, Start

Json = dict[str, Any]

SESSION = "/api/messaging/sessions/{sessionId}"
KEY = "a-key-of-32-characters-or-more-0123456789"


def read_document(service: ServiceProcess) -> Json:
    with closing(HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
        connection.request("GET", "/openapi.json")
        document: Json = json.load(connection.getresponse())
        return document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The document of a service with default settings."""
    with ServiceProcess(tmp_path_factory.mktemp("document"), REDIS_URL="memory://") as service:
        return read_document(service)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The document of a service with access control and session tokens."""
    settings = {"REDIS_URL": "memory://", "AUTH": "on", "SESSION_TOKEN_SECRET": "s" * 32}
    with ServiceProcess(tmp_path_factory.mktemp("secured"), **settings) as service:
        return read_document(service)


def resolved(node: Any, document: Json) -> Any:
    """Replace references with the values that they name."""
    if isinstance(node, list):
        return [resolved(each, document) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        _, *path = node["$ref"].split("/")
        target: Any = document
        for name in path:
            target = target[name]
        return resolved(target, document)
    return {name: resolved(each, document) for name, each in node.items()}


def test_it_is_valid(document: Json, secured: Json) -> None:
    """Both documents are OpenAPI 3.1, by the specification's own schema."""
    assert secured["paths"].keys() - document["paths"].keys() == {f"{SESSION}/tokens"}
    OpenAPIV31SpecValidator(document).validate()
    OpenAPIV31SpecValidator(secured).validate()


def test_it_has_no_trace_of_access_control_that_is_off(document: Json) -> None:
    """No operation needs a credential, or can be refused for the lack of one."""
    assert "securitySchemes" not in document["components"]
    assert "SessionToken" not in document["components"]["schemas"]
    assert "UNAUTHORIZED" not in document["info"]["description"]
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["security"] == []
            assert "401" not in operation["responses"]
            assert "scope" not in operation["description"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.handler.__name__)
def test_it_tells_the_scope_that_each_operation_needs(
    document: Json, secured: Json, route: Route
) -> None:
    """With access control, an operation has its credentials, its scope and the refusals."""
    plain = document["paths"][route.path][route.method.lower()]
    operation = secured["paths"][route.path][route.method.lower()]
    if isinstance(route.access, Public):
        assert operation == plain
        return
    schemes = {"apiKey", "bearer"} | ({"streamToken"} if route.streams else set())
    assert schemes <= secured["components"]["securitySchemes"].keys()
    assert {name: scopes for each in operation["security"] for name, scopes in each.items()} == {
        name: [route.access] for name in schemes
    }
    assert f"`{route.access}`" in operation["description"]
    assert operation["description"].endswith(route.access_note)
    assert not route.access_note or route.access_note not in plain["description"]
    assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    assert "The credential does not permit this" in operation["responses"]["403"]["description"]
    assert ("429" in operation["responses"]) is not route.streams
    assert plain["responses"].keys() <= operation["responses"].keys()


def test_ending_a_session_is_documented_as_published(document: Json) -> None:
    """The operation is described as in its published document."""
    operation = resolved(document["paths"][SESSION]["delete"], document)
    assert operation["summary"] == "End Session"
    assert operation["description"] == "Explicitly end and delete a conversation session"
    assert operation["security"] == []
    assert "requestBody" not in operation
    published, key = operation["parameters"]
    assert (key["name"], key["required"]) == ("Idempotency-Key", False)
    assert published == {
        "name": "sessionId",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "ID of the session to end",
    }

    responses = operation["responses"]
    assert responses["200"]["description"] == "Session ended successfully"
    assert schema_of(responses["200"])["properties"] == {
        "message": {"type": "string", "examples": ["Session ended successfully"]}
    }
    for status, description in (("404", "Session not found"), ("500", "Internal server error")):
        assert responses[status]["description"] == description
        schema = schema_of(responses[status])
        assert set(schema["properties"]) == {"success", "error"}
        assert schema["properties"]["success"]["type"] == "boolean"
        assert schema["properties"]["success"]["examples"] == [False]
        assert schema["properties"]["error"]["properties"] == {
            "code": {"type": "string", "description": "Error code"},
            "message": {"type": "string", "description": "Error message"},
            "details": {"type": "string", "description": "Detailed error information"},
        }


def schema_of(response: Json) -> Json:
    schema: Json = response["content"]["application/json"]["schema"]
    return schema


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.handler.__name__)
def test_every_operation_is_in_it(document: Json, route: Route) -> None:
    """Each operation has its success and every status of its errors, and no other."""
    operation = document["paths"][route.path][route.method.lower()]
    statuses = {route.status, *route.also} | {ERRORS[error].status for error in route.all_errors}
    assert set(operation["responses"]) == {str(status) for status in statuses}


def test_it_tells_the_limits_that_are_set(start: Start) -> None:
    """The ranges of timeouts are those of this service's settings."""
    service = start(
        REDIS_URL="memory://",
        SESSION_MIN_TIMEOUT_MINUTES="10",
        SESSION_MAX_TIMEOUT_MINUTES="100",
    )
    schemas = read_document(service)["components"]["schemas"]
    bounds = ("minimum", "exclusiveMinimum", "maximum")
    assert {
        name: {bound: value for bound, value in schema["anyOf"][0].items() if bound in bounds}
        for name, schema in schemas["TimeoutSettings"]["properties"].items()
    } == {
        "timeoutMinutes": {"minimum": 10, "maximum": 100},
        "autoRenew": {},
        "maxDurationMinutes": {"minimum": 10, "maximum": 200},
        "warningThresholdMinutes": {"exclusiveMinimum": 0, "maximum": 100},
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.proof)])
def test_the_service_does_what_it_says(
    start: Start, store_url: str, tmp_path: Path, examples: int
) -> None:
    """Generated requests, valid and invalid, alone and in sequences, are answered as documented."""
    check(start(REDIS_URL=store_url), tmp_path, max_examples=examples)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("examples", [5, pytest.param(100, marks=pytest.mark.proof)])
def test_it_does_so_with_access_control(
    start: Start, store_url: str, tmp_path: Path, examples: int
) -> None:
    """With a credential requests are answered as documented, and without it they are refused."""
    service = start(REDIS_URL=store_url, ELIZA_SERVER_AUTH_TOKEN=KEY)
    without_others = "--generation-with-security-parameters=false"  # two credentials are refused
    check(service, tmp_path, "--header", f"X-API-KEY: {KEY}", without_others, max_examples=examples)


def check(service: ServiceProcess, folder: Path, *arguments: str, max_examples: int) -> None:
    options = {
        "checks": "all",
        "phases": "examples,coverage,fuzzing,stateful",
        "max-examples": str(max_examples),
        "seed": "1",
        "request-timeout": "10",
        "generation-database": "none",
        "exclude-path-regex": "/events$",  # streams have no end; tests/http/test_streams.py
    }
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", "--no-color", "--continue-on-failure"]
        + [f"--{name}={value}" for name, value in options.items()]
        + [*arguments, f"http://127.0.0.1:{service.port}/openapi.json"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.support.document_hooks"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
