"""The types of events are the same in scripts, responses, schemas and documents."""

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

# By type, the details of an event as a script announces it, with all optional parts.
ANNOUNCED = {
    "created": f"{AT + 60_000}",
    "message": f"9b2f6c1e-4d07-4a58-8f13-60c2d5e7ab94 user {AT} Hello there",
    "renewed": f"{AT + 60_000} 3",
    "updated": f"{AT + 60_000} 1800000 43200000 300000 1 metadata",
    "expiring": f"{AT + 60_000}",
    "expired": f"{AT}",
    "ended": "bulk server",
}


def announced_types() -> set[str]:
    scripts = (ROOT / "session_service" / "store" / "lua").rglob("*.lua")
    return {name for path in scripts for name in re.findall(r"announce\('(\w+)'", path.read_text())}


def test_every_event_that_a_script_announces_has_a_type() -> None:
    """The events that scripts announce are exactly the types."""
    assert announced_types() == set(EVENT_TYPES)


@pytest.mark.parametrize("name", sorted(announced_types()))
def test_an_announced_event_is_known_to_clients_and_documents(name: str) -> None:
    """Every event decodes, fits the schema, and has a row in docs/events.md with all its data."""
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
    """A malformed detail is refused, also a time after the year 9999, which JSON times lack."""
    with pytest.raises(ValueError):  # noqa: PT011 - of int() and of unpacking, too
        EVENT_DETAILS[name].decode(Announcement(AT, "user", "agent", detail))


def test_further_numbers_of_a_newer_version_are_passed_over() -> None:
    """Further numbers of a newer version are ignored, so that versions can be mixed."""
    details = EVENT_DETAILS["renewed"].decode(Announcement(AT, "user", "agent", f"{AT} 3 99"))
    assert msgspec.to_builtins(details) == {"expiresAt": AT, "renewalCount": 3}
