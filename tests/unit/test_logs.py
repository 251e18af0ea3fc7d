"""Log lines."""

import json
import logging
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
    """On a terminal a line is plain text."""
    logs.set_up("info", "console")
    logging.getLogger("session_service.x").info("happened")
    assert "happened" in capsys.readouterr().err


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
