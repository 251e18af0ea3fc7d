"""Events as lines: the telling detail, in the width of a terminal, and without control codes."""

import sys
from typing import Any

import pytest
from rich.cells import cell_len

from session_service.api.events import CloudEvent
from session_service.client import Reset
from session_service.console.event_lines import line_of

SESSION, USER, AGENT = (f"{n}f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90" for n in (3, 6, 9))
AT = "2026-01-31T12:00:00.000Z"


def event(kind: str, **data: Any) -> CloudEvent:
    ids = {"sessionId": SESSION, "userId": USER, "agentId": AGENT}
    return CloudEvent(
        specversion="1.0",
        id="1764000000000-3f-0",
        source=f"/api/messaging/sessions/{SESSION}",
        type=f"session.{kind}",
        subject=SESSION,
        time=AT,
        datacontenttype="application/json",
        data=ids | data,
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is a terminal of 80 columns."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")


LATER = "2026-01-31T12:30:00.000Z"


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        ("created", {"expiresAt": LATER}, f"user {USER}, agent {AGENT}"),
        ("message", {"isAgent": True}, "by the agent"),
        ("message", {"isAgent": False, "content": "Hi\nall\x1b[2J"}, r"user: Hi\nall\x1b[2J"),
        ("renewed", {"expiresAt": LATER, "renewalCount": 3}, f"to {LATER}, 3x"),
        ("updated", {"expiresAt": LATER, "changed": "timeout"}, f"timeout; to {LATER}"),
        ("updated", {"expiresAt": LATER, "changed": "metadata"}, "metadata"),
        ("expiring", {"expiresAt": LATER, "minutesRemaining": 1}, "1 minute left"),
        ("expiring", {"expiresAt": LATER, "minutesRemaining": 5}, "5 minutes left"),
        ("expired", {"expiredAt": LATER}, ""),
        ("ended", {}, ""),
        ("ended", {"reason": "bulk", "by": "server"}, "bulk, by server"),
        ("ended", {"by": "user"}, "by user"),
        ("paused", {"until": "\x1b]0;x\x07"}, '{"until":"\\u001b]0;x\\u0007"}'),
        ("renewed", {"newer": 1}, '{"newer":1}'),
    ],
)
def test_a_line_has_the_telling_detail(kind: str, data: dict[str, Any], told: str) -> None:
    """Through a pipe a line has the whole detail; data of a newer service are shown as they are."""
    assert line_of(event(kind, **data)) == f"{AT}  {kind:<8}  {SESSION}  {told}".rstrip()


@pytest.mark.usefixtures("terminal")
def test_a_line_fits_a_terminal() -> None:
    """On a terminal of 80 columns the longest lines are cut, those with wide characters, too."""
    renewed = line_of(event("renewed", expiresAt=LATER, renewalCount=12))
    assert renewed == f"12:00:00  renewed   {SESSION}  to 12:30:00, 12x"
    for content in ("Hello " * 20, "你好" * 40, "\x07" * 40):
        line = line_of(event("message", isAgent=False, content=content))
        assert line.endswith("…")
        assert 78 <= cell_len(line) <= 80
    assert cell_len(line_of(event("created"))) <= 80
    assert line_of(Reset("1764000000000-3f-0"))[8:] == (
        "  reset     some events are missing here: read the sessions again"
    )
