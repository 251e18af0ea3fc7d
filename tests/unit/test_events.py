"""Events: their ids, their order, and their external form."""

import os
import random
import re

import msgspec
import pytest

from session_service.domain.errors import ValidationFailed
from session_service.domain.events import LAST_NUMBER, Event, EventFilter, EventId
from session_service.domain.ids import SHARDS, new_id, shard_of_user
from session_service.store.records import unpack_event
from tests.support.factories import event_record

SESSION = new_id("3f", os.urandom)
AGENT = "11111111-1111-4111-8111-111111111111"
USER = "22222222-2222-4222-8222-222222222222"
AT = 1_764_000_000_000


def event(kind: str, detail: str = "") -> Event:
    record = event_record(kind, SESSION, detail, agent_id=AGENT, user_id=USER)
    return unpack_event(EventId(AT, "3f", 0), record)


def test_an_id_is_read_as_it_is_written() -> None:
    """An id is parsed as it was formatted, up to the largest."""
    for each in (EventId(0, "00", 0), EventId(AT, "3f", 7), EventId.before(AT)):
        assert EventId.parse(str(each), "lastEventId") == each
    assert str(EventId(AT, "3f", 7)) == "1764000000000-3f-7"


@pytest.mark.parametrize(
    "text",
    ["", "x", "1", "1-3f", "1-3g-0", "-1-3f-0", "1-3f-0-0", "1-3f-0\n", "1-3f-\u0660",
     f"1-3f-{LAST_NUMBER + 1}", "9999999999999999-3f-0"],
)  # fmt: skip
def test_what_is_no_id_is_refused(text: str) -> None:
    """A malformed id is refused with the name of the field and an example."""
    with pytest.raises(ValidationFailed, match=r"^lastEventId must be .*1764000000000-3f-0"):
        EventId.parse(text, "lastEventId")


def test_ids_order_by_time_then_shard_then_number() -> None:
    """Ids sort by time, shard and number; "before a ms" sorts before all ids of that ms."""
    ordered = [
        EventId(1, "ff", 9),
        EventId.before(2),
        EventId(2, "00", 0),
        EventId(2, "00", 1),
        EventId(2, "0f", 0),
        EventId(10, "00", 0),
    ]
    assert sorted(random.sample(ordered, len(ordered))) == ordered


def test_the_outer_form_is_a_cloud_event() -> None:
    """The external form has the attributes that CloudEvents 1.0 requires, subject and time."""
    outer = event("renewed", f"{AT + 60_000} 3").cloud_event()
    assert msgspec.json.decode(msgspec.json.encode(outer)) == {
        "specversion": "1.0",
        "id": "1764000000000-3f-0",
        "source": f"/api/messaging/sessions/{SESSION}",
        "type": "session.renewed",
        "subject": SESSION,
        "time": "2025-11-24T16:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {
            "sessionId": SESSION,
            "userId": USER,
            "agentId": AGENT,
            "expiresAt": "2025-11-24T16:01:00.000Z",
            "renewalCount": 3,
        },
    }
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in outer)  # 3.1, naming


@pytest.mark.parametrize(
    ("kind", "detail", "data"),
    [
        ("created", f"{AT}", {"expiresAt": "2025-11-24T16:00:00.000Z"}),
        ("created", "", {}),
        (
            "message",
            f"id agent {AT}",
            {
                "messageId": "id",
                "authorId": AGENT,
                "isAgent": True,
                "createdAt": "2025-11-24T16:00:00.000Z",
            },
        ),
        (
            "message",
            f"id user {AT} a  b \n c",
            {
                "messageId": "id",
                "authorId": USER,
                "isAgent": False,
                "createdAt": "2025-11-24T16:00:00.000Z",
                "content": "a  b \n c",
            },
        ),
        (
            "updated",
            f"{AT} 1800000 43200000 90000 1 metadata",
            {
                "expiresAt": "2025-11-24T16:00:00.000Z",
                "timeoutConfig": {
                    "timeoutMinutes": 30,
                    "autoRenew": True,
                    "maxDurationMinutes": 720,
                    "warningThresholdMinutes": 1.5,
                },
                "changed": "metadata",
            },
        ),
        (
            "expiring",
            f"{AT + 299_000}",
            {"expiresAt": "2025-11-24T16:04:59.000Z", "minutesRemaining": 5},
        ),
        ("expired", f"{AT}", {"expiredAt": "2025-11-24T16:00:00.000Z"}),
        ("ended", "", {}),
        ("ended", "bulk", {"reason": "bulk"}),
    ],
)
def test_each_type_says_what_changed(kind: str, detail: str, data: dict[str, object]) -> None:
    """The data of each type has the names and values of the JSON API."""
    assert event(kind, detail).data == data


def test_a_filter_wants_what_matches_in_all_that_it_names() -> None:
    """A filter matches if all its conditions do, and knows the possible shards."""
    created = event("created")
    for event_filter in (
        EventFilter(),
        EventFilter(session_id=SESSION, user_id=USER, agent_id=AGENT, types=frozenset(["created"])),
    ):
        assert event_filter.matches(created)
    for unwanted in (
        EventFilter(session_id=new_id("3f", os.urandom)),
        EventFilter(user_id=AGENT),
        EventFilter(agent_id=USER),
        EventFilter(types=frozenset(["ended"])),
    ):
        assert not unwanted.matches(created)
    assert EventFilter(agent_id=AGENT).shards == SHARDS
    assert EventFilter(user_id=USER).shards == (shard_of_user(USER),)
    assert EventFilter(session_id=SESSION).shards == ("3f",)


def test_an_id_is_taken_in_either_case() -> None:
    """A shard in upper case is accepted."""
    assert EventId.parse("1-3F-0", "lastEventId") == EventId(1, "3f", 0)
