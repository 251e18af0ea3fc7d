"""The Python client has every operation, parameter and error code of the API document."""

import inspect
import subprocess
import sys
from typing import Any

import pytest

from session_service import client
from session_service.api.errors import ErrorCode
from session_service.client.errors import BY_CODE
from session_service.client.transport import OPERATIONS, path_of
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.rest.openapi import document
from session_service.web.rest.table import routes_of

WORDS = {
    "all": "all_",
    "type": "types",
    "lastEventId": "last_event_id",
    "Last-Event-ID": "last_event_id",
    "testWebhook: type": "event_type",
}


@pytest.fixture(scope="module")
def api() -> dict[str, Any]:
    """The document of a service with everything: access control, session tokens and limits."""
    routes = routes_of(with_session_tokens=True)
    return document(TimeoutPolicy(), routes, has_access=True, has_limits=True)


def operations(api: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation
        for methods in api["paths"].values()
        for operation in methods.values()
        if "operationId" in operation
    }


def fields(api: dict[str, Any], operation: dict[str, Any]) -> set[str]:
    """Return the names of the parameters and of the members of the body."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = schema.get("schema", {}).get("$ref", "").rpartition("/")[2]
    body = api["components"]["schemas"].get(reference, {}).get("properties", {})
    parameters = [each.get("$ref", each.get("name")) for each in operation.get("parameters", ())]
    return {*body, *(each.rpartition("/")[2] for each in parameters)}


def parameter(operation: str, name: str) -> str:
    return WORDS.get(f"{operation}: {name}") or snake(name)


def snake(name: str) -> str:
    letters = "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
    return WORDS.get(name, letters.replace("-", "").replace("__", "_").strip("_"))


def test_every_operation_is_a_method(api: dict[str, Any]) -> None:
    """The client has a method for each operation, and none for another."""
    assert OPERATIONS.keys() == operations(api).keys()


def test_every_field_is_a_parameter(api: dict[str, Any]) -> None:
    """Each field of a request is a parameter, in snake case, of the method of the operation."""
    missing = [
        f"{name}: {field}"
        for name, operation in operations(api).items()
        for field in fields(api, operation)
        if parameter(name, field) not in inspect.signature(OPERATIONS[name]).parameters
    ]
    assert missing == []
    assert sum(len(fields(api, each)) for each in operations(api).values()) > 60


def test_every_code_is_an_exception(api: dict[str, Any]) -> None:
    """Each error code has a class of its own, which the package exports."""
    assert {code: BY_CODE[code].error_code for code in ErrorCode} == {c: c for c in ErrorCode}
    assert len(set(BY_CODE.values())) == len(ErrorCode)
    assert {each.__name__ for each in BY_CODE.values()} <= set(client.__all__)
    text = api["info"]["description"]
    assert [code for code in BY_CODE if f"`{code}`" not in text] == []


def test_import_is_cheap() -> None:
    """The client loads aiohttp, msgspec and the wire types; no server, no Redis, no uvloop."""
    code = "import sys, session_service.client; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    own = {name.split(".")[1] for name in loaded if name.startswith("session_service.")}
    assert own == {"api", "client", "domain"}
    heavy = ("redis", "uvloop", "socketio", "structlog", "typer", "rich", "yaml", "jwt")
    assert [name for name in loaded if name.partition(".")[0] in heavy] == []
    assert "aiohttp.web" not in loaded


@pytest.mark.parametrize("wrong", ["", ".", "..", "a/b", "a?b", "ä", "a b"])
def test_an_id_stays_one_part_of_the_path(wrong: str) -> None:
    """No id makes a request to another path, such as that of many sessions."""
    with pytest.raises(ValueError, match="is not an id"):
        path_of("sessions", wrong)
