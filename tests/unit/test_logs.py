"""Log lines."""

import json
import logging
from collections.abc import Iterator

import pytest

from session_service import logs


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Put pytest's own handlers back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def test_a_line_is_json_and_has_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal, a program can read it."""
    logs.set_up("info", "auto")
    token = logs.REQUEST_ID.set("abc")
    logging.getLogger("session_service.x").warning("it %s", "happened", extra={"calls": 3})
    logs.REQUEST_ID.reset(token)
    logging.getLogger("session_service.x").debug("not to be seen")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said.pop("timestamp")
    assert said == {
        "event": "it happened",
        "level": "warning",
        "logger": "session_service.x",
        "request_id": "abc",
        "calls": 3,
    }


def test_a_trace_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is a member of its line."""
    logs.set_up("info", "json")
    try:
        raise ValueError("oh")
    except ValueError:
        logging.getLogger("session_service.x").exception("defect")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: oh" in json.loads(line)["exception"]


def test_on_a_terminal_a_line_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """And not JSON."""
    logs.set_up("info", "console")
    logging.getLogger("session_service.x").info("happened")
    assert "happened" in capsys.readouterr().err


def test_a_field_does_not_replace_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A field named event is shown beside the line's text, under another name."""
    logs.set_up("info", "json")
    logging.getLogger("session_service.x").warning("given up", extra={"event": "1-3f-0"})
    said = json.loads(capsys.readouterr().err)
    assert (said["event"], said["event_"]) == ("given up", "1-3f-0")
