"""The types of events: what scripts announce is what clients and the documents know."""

import re
from pathlib import Path

import msgspec
import pytest

from session_service.domain.event_types import EVENT_DETAILS, EVENT_TYPES, Announcement
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.rest.openapi import document

ROOT = Path(__file__).parents[2]
AT = 1_764_000_000_000
IDS = ["sessionId", "userId", "agentId"]

# By type, a detail as a script announces it with all that it can have.
ANNOUNCED = {
    "created": f"{AT + 60_000}",
    "message": f"9b2f6c1e-4d07-4a58-8f13-60c2d5e7ab94 user {AT} Hello there",
    "renewed": f"{AT + 60_000} 3",
    "updated": f"{AT + 60_000} 1800000 43200000 300000 1",
    "expiring": f"{AT + 60_000}",
    "expired": f"{AT}",
    "ended": "bulk",
}


def announced_types() -> set[str]:
    scripts = (ROOT / "session_service" / "store" / "lua").rglob("*.lua")
    return {name for path in scripts for name in re.findall(r"announce\('(\w+)'", path.read_text())}


def test_every_event_that_a_script_announces_has_a_type() -> None:
    """And every type is announced by a script."""
    assert announced_types() == set(EVENT_TYPES)


@pytest.mark.parametrize("name", sorted(announced_types()))
def test_an_announced_event_is_known_to_clients_and_documents(name: str) -> None:
    """It is decoded, its data is in the schema, and its row in docs/events.md names all of it."""
    details = EVENT_DETAILS[name].decode(Announcement(AT, "user", "agent", ANNOUNCED[name]))
    members = list(details.to_json())

    schemas = document(TimeoutPolicy())["components"]["schemas"]
    schema = f"{name.title()}EventData"
    assert {"$ref": f"#/components/schemas/{schema}"} in schemas["CloudEvent"]["properties"][
        "data"
    ]["anyOf"]
    assert list(schemas[schema]["properties"]) == IDS + members

    page = (ROOT / "docs" / "events.md").read_text()
    row = re.search(rf"^\| `session\.{name}` .*$", page, re.MULTILINE)
    assert row
    assert all(f"`{member}`" in row[0] for member in members)


@pytest.mark.parametrize(
    ("name", "detail"),
    [("created", "x"), ("renewed", f"{AT}"), ("renewed", ""), ("created", "-1"), ("message", "a b"),
     ("updated", f"{AT} 1 2"), ("expired", "253402300800000")],
)  # fmt: skip
def test_a_detail_of_another_form_is_refused(name: str, detail: str) -> None:
    """Also a time beyond the year 9999, which has no form in JSON."""
    with pytest.raises(ValueError):  # noqa: PT011 - of int() and of unpacking, too
        EVENT_DETAILS[name].decode(Announcement(AT, "user", "agent", detail))


def test_further_numbers_of_a_newer_version_are_passed_over() -> None:
    """So that versions can be mixed while they are replaced."""
    details = EVENT_DETAILS["renewed"].decode(Announcement(AT, "user", "agent", f"{AT} 3 99"))
    assert msgspec.to_builtins(details) == {"expiresAt": AT, "renewalCount": 3}
