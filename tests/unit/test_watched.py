"""The table of `sessions watch`: which sessions it has, and what it says about them."""

import time
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from session_service.api.events import CloudEvent
from session_service.api.sessions import SessionInfo, SessionList, SessionStats
from session_service.console.formats import countdown
from session_service.console.watch_table import render, room_of
from session_service.console.watched import KEPT_SECONDS, Watched
from session_service.domain.timeouts import TimeoutInfo
from session_service.domain.times import iso
from tests.support.access import AGENT, ANN

MINUTE = 60_000


def session(n: int, left: int = 30 * MINUTE, *, ahead: int = 0) -> SessionInfo:
    """Return session n with ``left`` ms, of a service whose clock is ``ahead`` of ours."""
    now = int(time.time() * 1000) + ahead
    return SessionInfo(
        session_id=ident(n),
        channel_id=ident(n),
        agent_id=AGENT,
        user_id=ANN,
        created_at=iso(now - 90_000),
        last_activity=iso(now),
        expires_at=iso(now + left),
        timeout_config=TimeoutInfo(30, True, 720, 5),
        renewal_count=0,
        time_remaining=left,
        is_near_expiration=left <= 5 * MINUTE,
        metadata={},
    )


def page(*sessions: SessionInfo, total: int | None = None) -> SessionList:
    total = len(sessions) if total is None else total
    return SessionList(
        sessions=[*sessions], total=total, stats=SessionStats(total, total, 0), next_cursor=None
    )


def ident(n: int) -> str:
    return f"{n:08}-7a3e-4c55-9d0a-2b7f4e8a1c90"


def event(n: int, kind: str, **data: Any) -> CloudEvent:
    """Return an event of a moment later than now."""
    return CloudEvent(
        specversion="1.0",
        id="1764000000000-3f-0",
        source=f"/api/messaging/sessions/{ident(n)}",
        type=f"session.{kind}",
        subject=ident(n),
        time=iso(int(time.time() * 1000) + 500),
        datacontenttype="application/json",
        data={"sessionId": ident(n), "userId": ANN, "agentId": AGENT} | data,
    )


def in_minutes(minutes: float) -> str:
    return iso(int(time.time() * 1000 + minutes * MINUTE))


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.room = 3
    return watched


def shown(watched: Watched) -> list[tuple[str, str]]:
    return [(row.session_id, row.state) for row in watched.rows]


def test_the_newest_sessions_are_shown(watched: Watched) -> None:
    """The table has as many as fit: the first of the list, and new ones before them."""
    watched.list(page(session(1), session(2), total=1_000_000))
    assert watched.has_vacancy()
    watched.list(page(session(1), session(2), session(3), session(4), total=1_000_000))
    assert [each for each, _ in shown(watched)] == [ident(1), ident(2), ident(3)]
    assert not watched.has_vacancy()
    for n in range(5, 1005):
        watched.apply(event(n, "created", expiresAt=in_minutes(30)))
    assert [each for each, _ in shown(watched)] == [ident(1004), ident(1003), ident(1002)]
    assert watched.total == 1_001_000


def test_events_change_the_state(watched: Watched) -> None:
    """Events change the state and the time left; one that is over stays for some seconds."""
    watched.list(page(session(1), session(2), session(3, 4 * MINUTE)))
    assert shown(watched) == [(ident(1), "active"), (ident(2), "active"), (ident(3), "expiring")]
    watched.apply(event(1, "expiring", expiresAt=in_minutes(5), minutesRemaining=5))
    watched.apply(event(3, "renewed", expiresAt=in_minutes(30), renewalCount=1))
    watched.apply(event(2, "ended", reason="bulk"))
    watched.apply(event(9, "ended"))
    assert shown(watched) == [(ident(1), "expiring"), (ident(2), "ended"), (ident(3), "active")]
    assert watched.total == 1
    watched.list(page(session(1), session(2), session(3)))  # a list of before the end
    assert shown(watched)[1] == (ident(2), "ended")
    row = watched.rows[1]
    assert row.over_at is not None
    row.over_at -= KEPT_SECONDS + 1
    assert [each for each, _ in shown(watched)] == [ident(1), ident(3)]


def test_a_session_whose_time_seems_up_is_read(watched: Watched) -> None:
    """Its heartbeats may have been no events; so is one that was read long ago."""
    watched.list(page(session(1, 0), session(2), session(3)))
    assert [row.session_id for row in watched.due()] == [ident(1)]
    watched.read(session(1))
    assert [*watched.due()] == []
    watched.rows[2].read_at -= 60
    assert [row.session_id for row in watched.due()] == [ident(3)]


@pytest.mark.parametrize(("columns", "is_whole"), [(80, False), (120, True), (30, False)])
def test_the_table_has_the_size_of_the_screen(
    watched: Watched, columns: int, is_whole: bool
) -> None:
    """The time left is by the service's clock; ids are whole if the width permits."""
    console = Console(file=StringIO(), width=columns, height=10, force_terminal=False)
    watched.room = room_of(console)
    ahead = 3_600_000
    watched.list(page(*(session(n, 29 * MINUTE + 500, ahead=ahead) for n in range(9)), total=1234))
    with console.capture() as captured:
        console.print(render(console, watched, user=None, agent=None, connection="connected"))
    lines = captured.get().splitlines()
    assert len(lines) == 10
    assert max(map(len, lines)) <= columns
    if columns >= 80:
        assert lines[0].split() == ["1,234", "sessions", "connected"]
        assert lines[2].split()[0] == (ident(0) if is_whole else "00000000…")
        assert lines[2].split()[-3:] == ["1m", "29:00", "active"]
        assert lines[-1].strip() == "… and 1,227 more"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0:00"), (59.9, "0:59"), (1752, "29:12"), (3909, "1:05:09"), (273_600, "3d 04h")],
)
def test_a_countdown_is_exact_and_short(seconds: float, text: str) -> None:
    """A time left has minutes and seconds; days have hours."""
    assert countdown(seconds) == text
