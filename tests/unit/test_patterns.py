"""Patterns of values in requests and settings match the whole value, to its last byte."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect

from session_service.domain.errors import ValidationFailed
from session_service.domain.events import EventId
from session_service.domain.ids import is_uuid, shard_of_session
from session_service.domain.timeouts import TimeoutPolicy
from session_service.settings import Settings, SettingsError
from session_service.web.rest.openapi import document
from session_service.web.rest.table import ROUTES
from tests.support.factories import ID


def patterns(node: inspect.Type) -> Iterator[str]:
    """Yield all patterns within a type."""
    match node:
        case inspect.Metadata(type=inner):
            yield from patterns(inner)
        case inspect.UnionType(types=types):
            for each in types:
                yield from patterns(each)
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from patterns(field.type)
        case inspect.ListType(item_type=item):
            yield from patterns(item)
        case inspect.StrType(pattern=str(pattern)):
            yield pattern


def test_the_patterns_of_requests_are_anchored() -> None:
    """Patterns of requests end with ``\\Z``, as ``$`` also matches before a last newline."""
    types: list[Any] = [
        declared for route in ROUTES for declared in (route.body, route.query) if declared
    ]
    found = {each for declared in types for each in patterns(inspect.type_info(declared))}
    assert len(found) >= 4
    assert [
        each for each in found if not re.fullmatch(r"\\A.*\\Z", each) and each != "^https?://"
    ] == []


def test_the_document_writes_them_for_javascript() -> None:
    """The document has no ``\\A`` and ``\\Z``, which JSON Schema does not know."""

    def strings(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for name, value in node.items():
                if name == "pattern" and isinstance(value, str):
                    yield value
                yield from strings(value)
        elif isinstance(node, list):
            for each in node:
                yield from strings(each)

    found = set(strings(document(TimeoutPolicy())))
    assert any("[0-9a-fA-F]{12}$" in each for each in found)
    assert [each for each in found if "\\A" in each or "\\Z" in each] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSION_KEY_PREFIX", "a\nb"),
        ("SESSION_CORS_ORIGINS", "https://a.example,\nhttps://b.example\n/x"),
        ("ALLOWED_HOSTS", "a.example\nb.example"),
    ],
)
def test_the_patterns_of_settings_are_anchored(name: str, value: str) -> None:
    """A newline in a value is refused; one around it, as at a file's end, is stripped."""
    with pytest.raises(SettingsError):
        Settings.from_environment({name: value})
    Settings.from_environment({name: {"SESSION_CORS_ORIGINS": "*"}.get(name, "a") + "\n"})


def test_ids_are_whole() -> None:
    """Ids of sessions, users and events match as a whole."""
    assert not is_uuid(ID + "\n")
    assert shard_of_session(ID.replace("9a0c", "8a0c") + "\n") is None
    with pytest.raises(ValidationFailed):
        EventId.parse("1764000000000-3f-0\n", "lastEventId")
