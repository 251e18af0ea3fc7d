"""The audit log: the number of entries of a source, and the entries of commands."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from session_service import audit, logs
from session_service.audit import AuditEvent, AuditLog, Outcome, record_by_operator
from session_service.domain.credentials import Credential
from session_service.web.http.client_addresses import group_of
from tests.support.access import ANN, key, user
from tests.support.waiting import wait_until

SECONDS = 0.2  # in place of 1


@pytest.fixture(autouse=True)
def brief_seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make seconds brief; restore pytest's own handlers after the test."""
    monkeypatch.setattr(audit, "_SECONDS", SECONDS)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


class Written:
    """The entries that were written so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._lines: list[dict[str, Any]] = []

    def __call__(self) -> list[dict[str, Any]]:
        self._lines += map(json.loads, self._capsys.readouterr().err.splitlines())
        return self._lines

    def counts(self) -> list[int]:
        return [line.get("count", 1) for line in self()]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Written:
    return Written(capsys)


def new_log() -> AuditLog:
    """Return an audit log that is written as by the service."""
    logs.set_up("info", "json")
    return AuditLog(group_of)


def refuse(entries: AuditLog, address: str, credential: Credential = Credential.OPEN) -> None:
    entries.record(AuditEvent.REFUSED, credential, address, Outcome.REFUSED, {"status": 401})


async def test_a_source_has_ten_entries_and_a_count(written: Written) -> None:
    """The eleventh refusal within a second is the first that is only counted."""
    entries = new_log()
    logs.REQUEST_ID.set("abc")
    for _ in range(57):
        refuse(entries, "192.0.2.7")
    await wait_until(lambda: len(written()) == 11)
    assert written.counts() == [1] * 10 + [47]
    assert all(line["address"] == "192.0.2.7" for line in written())
    assert ["request_id" in line for line in written()] == [True] * 10 + [False]


async def test_a_second_starts_anew(written: Written) -> None:
    """After a second, a source has entries of its own again."""
    entries = new_log()
    for _ in range(12):
        refuse(entries, "192.0.2.7")
    await wait_until(lambda: len(written()) == 11)
    for _ in range(10):
        refuse(entries, "192.0.2.7")
    await wait_until(lambda: len(written()) == 21)
    assert written.counts() == [1] * 10 + [2] + [1] * 10


async def test_sources_are_counted_by_themselves(written: Written) -> None:
    """A source is a credential or, without one, an address; a /64 network of IPv6 is one."""
    entries = new_log()
    for n in range(12):
        refuse(entries, "192.0.2.7")
        refuse(entries, "::ffff:192.0.2.7")
        refuse(entries, f"2001:db8:0:1::{n:x}")
        refuse(entries, f"2001:db8:0:{n:x}::1")
        refuse(entries, f"192.0.2.{n}", key("billing"))
        refuse(entries, "192.0.2.7", user(ANN))
    entries.close()
    await wait_until(lambda: sum(written.counts()) == 72)
    counted = {
        line.get("credential_id", line["address"]): line["count"]
        for line in written()
        if "count" in line
    }
    assert counted == {
        "::ffff:192.0.2.7": 14,
        "2001:db8:0:1::b": 3,
        "billing": 2,
        ANN: 2,
    }


async def test_very_many_sources_count_as_one(written: Written) -> None:
    """More than 200 sources in a second do not have ten entries each."""
    entries = new_log()
    for n in range(5000):
        refuse(entries, f"10.0.{n // 250}.{n % 250}")
    entries.close()
    await wait_until(lambda: sum(written.counts()) == 5000)
    assert len(written()) == 211
    assert "address" not in written()[-1]


async def test_an_effect_is_never_only_counted(written: Written) -> None:
    """Any number of ends have an entry each, with what is known of them."""
    entries = new_log()
    for n in range(500):
        fields = {"session": str(n), "user": None}
        entries.record(AuditEvent.SESSION_ENDED, user(ANN), "", Outcome.DONE, fields)
    await wait_until(lambda: len(written()) == 500)
    assert {line["session"] for line in written()} == {str(n) for n in range(500)}
    assert {line["user"] for line in written()} == {ANN}


def test_a_command_has_the_operator(written: Written) -> None:
    """An entry of a command names the user of the operating system, with the kind host."""
    logs.set_up("error", "json")
    record_by_operator(AuditEvent.KEY_REVOKED, key="7Hq2Xw9k")
    (line,) = written()
    assert (line["event"], line["credential_kind"], line["key"]) == (
        "key.revoked",
        "host",
        "7Hq2Xw9k",
    )
    assert line["credential_name"]
