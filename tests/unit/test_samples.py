"""Samples of events, by which webhooks are tested."""

import os

import msgspec
import pytest

from session_service.api.events import EVENT_DATA, CloudEvent
from session_service.domain.event_types import EVENT_DETAILS, EVENT_TYPES, Announcement
from session_service.domain.events import EventId
from session_service.domain.samples import sample_of
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.rest.openapi import document
from tests.unit.test_event_types import ANNOUNCED, AT

SCHEMAS = document(TimeoutPolicy())["components"]["schemas"]


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_sample_is_as_real_events_are(name: str) -> None:
    """Each type has a sample: valid by the published schemas, with all that a real event has."""
    sample = sample_of(name, AT, os.urandom, with_content=True).cloud_event()
    schema = f"{name.title()}EventData"
    (data_type,) = (each for each in EVENT_DATA if each.__name__ == schema)
    for kind, value in ((CloudEvent, sample), (data_type, sample["data"])):
        assert msgspec.to_builtins(msgspec.convert(value, kind)) == value
        for member, published in SCHEMAS[kind.__name__]["properties"].items():
            assert value.get(member) in published.get("enum", [value.get(member)])
    real = EVENT_DETAILS[name].decode(Announcement(AT, "user", "agent", ANNOUNCED[name])).to_json()
    optional = {"reason"}  # of an end in bulk
    members = sample["data"].keys() - {"sessionId", "userId", "agentId"}
    assert members == real.keys() - optional
    assert sample["type"] == f"session.{name}"
    assert sample["test"] is True
    assert sample["subject"] == sample["data"]["sessionId"]
    assert sample["subject"].startswith("7e57")


def test_a_sample_is_never_a_repeat() -> None:
    """The id is a valid one and new each time, because receivers pass over an id that they know."""
    ids = {sample_of("ended", AT, os.urandom, with_content=False).id for _ in range(10)}
    assert len(ids) == 10
    assert {str(EventId.parse(each, "id")) for each in ids} == ids


def test_a_sample_has_content_if_events_have() -> None:
    """The content of a message is left out, as it is from real events."""
    assert "content" not in sample_of("message", AT, os.urandom, with_content=False).data
