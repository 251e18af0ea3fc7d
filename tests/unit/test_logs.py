"""Log lines."""

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterator

import pytest

from session_service import logs
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Restore pytest's own handlers after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def test_a_line_is_json_and_has_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    """If standard error is no terminal, a line is JSON with the request id."""
    logs.set_up("info", "auto")
    token = logs.REQUEST_ID.set("abc")
    logging.getLogger("session_service.x").warning("it %s", "happened", extra={"calls": 3})
    logs.REQUEST_ID.reset(token)
    logging.getLogger("session_service.x").debug("not to be seen")
    (line,) = capsys.readouterr().err.splitlines()
    logged = json.loads(line)
    assert logged.pop("timestamp")
    assert logged == {
        "event": "it happened",
        "level": "warning",
        "logger": "session_service.x",
        "pid": os.getpid(),
        "request_id": "abc",
        "calls": 3,
    }


def test_a_trace_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is a member of its line."""
    logs.set_up("info", "json")
    try:
        raise ValueError("oh")
    except ValueError:
        logging.getLogger("session_service.x").exception("defect")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: oh" in json.loads(line)["exception"]


def test_on_a_terminal_a_line_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal a line is plain text, with the process."""
    logs.set_up("info", "console")
    logging.getLogger("session_service.x").info("happened")
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().err)
    assert "happened" in shown
    assert f"pid={os.getpid()}" in shown


def test_a_trace_on_a_terminal_has_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback has no local variables, which may be messages or secrets."""
    logs.set_up("info", "console")
    secret = "".join(("hu", "sh"))
    try:
        raise ValueError(len(secret))
    except ValueError:
        logging.getLogger("session_service.x").exception("defect")
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert secret not in shown


def test_a_field_does_not_replace_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A field named "event" is shown under another name beside the text."""
    logs.set_up("info", "json")
    logging.getLogger("session_service.x").warning("given up", extra={"event": "1-3f-0"})
    logged = json.loads(capsys.readouterr().err)
    assert (logged["event"], logged["event_"]) == ("given up", "1-3f-0")


async def test_events_are_written_at_any_level(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is a line like others, before those that follow it, also if LOG_LEVEL is error."""
    logs.set_up("error", "json")
    logs.REQUEST_ID.set("abc")
    events = logs.EventLog("session_service.events")
    for number in range(2):
        events.write("happened", {"number": number, "unknown": None})
    logging.getLogger("session_service.x").error("after it")
    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    assert (third["event"], second["number"]) == ("after it", 1)
    form = {name: re.sub(r"\d", "0", str(value)) for name, value in third.items()}
    assert re.sub(r"\d", "0", first.pop("timestamp")) == form["timestamp"]
    assert first == {
        "event": "happened",
        "level": "info",
        "logger": "session_service.events",
        "number": 0,
        "pid": os.getpid(),
        "request_id": "abc",
    }


@pytest.mark.parametrize("form", ["json", "console"])
def test_events_need_no_loop(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command without an event loop writes an event at once, in either form."""
    logs.set_up("error", form)
    logs.EventLog("session_service.events").write("happened", {"number": 7})
    shown = capsys.readouterr().err
    assert "happened" in shown
    assert "7" in shown


async def test_events_wait_for_the_end_of_a_turn_only(capsys: pytest.CaptureFixture[str]) -> None:
    """The events of a turn of the loop are written right after it."""
    logs.set_up("info", "json")
    logs.EventLog("session_service.events").write("happened", {})
    await asyncio.sleep(0)
    assert "happened" in capsys.readouterr().err


async def test_a_throttled_line_is_written_once_a_second_and_counts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A throttled line is written at once, then once a second with its count."""
    monkeypatch.setattr(logs, "_THROTTLE_SECONDS", 0.2)
    line = logs.Throttled(logging.getLogger("session_service.x"), "refused")

    def counts() -> list[int]:
        return [vars(record)["count"] for record in caplog.records]

    for _ in range(1000):
        line.log(reason="x")
    assert counts() == [1]
    await wait_until(lambda: len(counts()) == 2)
    assert counts() == [1, 999]
    line.log(reason="y")
    await wait_until(lambda: len(counts()) == 3)
    assert vars(caplog.records[-1])["reason"] == "y"


async def test_a_line_about_many_requests_has_no_request_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the first line of a throttled message has a request id."""
    monkeypatch.setattr(logs, "_THROTTLE_SECONDS", 0.05)
    logs.set_up("info", "json")
    logs.REQUEST_ID.set("abc")
    line = logs.Throttled(logging.getLogger("session_service.x"), "refused")
    for _ in range(3):
        line.log()
    written = capsys.readouterr().err

    def lines() -> list[str]:
        nonlocal written
        written += capsys.readouterr().err
        return written.splitlines()

    await wait_until(lambda: len(lines()) == 2)
    first, second = map(json.loads, lines())
    assert (first["request_id"], first["count"]) == ("abc", 1)
    assert ("request_id" in second, second["count"]) == (False, 2)


async def test_no_count_is_lost_when_the_process_ends(caplog: pytest.LogCaptureFixture) -> None:
    """At the end of the process, lines that wait for the end of their second are written."""
    line = logs.Throttled(logging.getLogger("session_service.x"), "refused")
    for _ in range(100):
        line.log()
    for _ in range(2):
        logs.write_counts()
        records = [each for each in caplog.records if each.name == "session_service.x"]
        assert [vars(each)["count"] for each in records] == [1, 99]


async def test_a_defect_is_logged_once_a_second_for_each_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A defect that occurs again and again is counted; one elsewhere has a line of its own."""
    logs.set_up("info", "json")
    log = logging.getLogger("session_service.x")

    def fail(divisor: int) -> None:
        try:
            1 // divisor
        except ZeroDivisionError:
            log.exception("defect", extra={"number": -divisor})

    for _ in range(50):
        fail(0)
    try:
        int("x")
    except ValueError:
        log.exception("defect")
    log.info("others")
    logs.write_counts()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    lines = [line for line in lines if line["logger"] == "session_service.x"]
    assert [line["event"] for line in lines] == ["defect", "defect", "others", "defect"]
    assert [line.get("count") for line in lines] == [1, 1, None, 49]
    assert ["ZeroDivisionError" in line.get("exception", "") for line in lines] == [1, 0, 0, 1]
    assert lines[3]["number"] == 0
