"""The commands ``sessions …`` against a service."""

import json
import sys
from pathlib import Path

import pytest

from session_service.client import SessionNotFound, SessionService
from session_service.composition import Store
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN, BOB, OTHER_AGENT, KnownCredentials, create
from tests.support.api import Client
from tests.support.console import Console
from tests.support.service import app_state
from tests.support.waiting import a_moment_later


async def test_a_list_has_the_sessions_of_a_user(console: Console, caller: SessionService) -> None:
    """`sessions list` prints up to --limit sessions and says how many there are; 0 prints all."""
    ids = []
    for _ in range(3):
        ids.append((await caller.sessions.create(ANN, AGENT)).session_id)
        await a_moment_later()  # the order within a millisecond is random
    await caller.sessions.create(BOB, AGENT)
    shown = await console("sessions", "list", "--user", ANN, "--limit", "2")
    header, *rows = shown.out.splitlines()
    assert header.split() == ["ID", "USER", "AGENT", "AGE", "LEFT", "STATE"]
    assert [row.split()[:3] for row in rows] == [[each, ANN, AGENT] for each in reversed(ids[1:])]
    assert shown.err == "2 of 3; --limit 0 lists all\n"
    everything = await console("sessions", "list", "--limit", "0", "--json")
    assert {each["sessionId"] for each in everything.lines} > set(ids)
    assert len(everything.lines) == 4
    assert everything.err == ""


async def test_a_session_is_shown_with_its_newest_messages(
    console: Console, caller: SessionService
) -> None:
    """`sessions show` prints the facts and the newest messages, in their order and harmless."""
    session_id = (await caller.sessions.create(ANN, AGENT, metadata={"a": "\x1b[2J"})).session_id
    for text in ("first", "second", "\x1b[31mred"):
        await caller.messages.send(session_id, text)
    await caller.messages.send(session_id, "reply", author_id=AGENT)
    shown = await console("sessions", "show", session_id, "--messages", "3")
    assert shown.code == 0
    assert f"session   {session_id}\n" in shown.out
    assert [line[9:] for line in shown.out.splitlines() if "user:" in line or "agent:" in line] == [
        "user: second",
        "user: \\x1b[31mred",
        "agent: reply",
    ]
    assert "\x1b" not in shown.out
    found = json.loads((await console("sessions", "show", session_id, "--json")).out)
    assert found["session"]["sessionId"] == session_id
    assert found["messages"][0]["content"] == "first"


async def test_sessions_are_ended_by_id(console: Console, caller: SessionService) -> None:
    """`sessions end ID…` ends those that live, names the others, and fails for them.

    Wrong usage ends none: --dry-run, which is for selections, and a text that is no id.
    """
    session_id = (await caller.sessions.create(ANN, AGENT)).session_id
    dry = await console("sessions", "end", session_id, "--dry-run")
    assert (dry.code, dry.out) == (2, "")
    assert "--dry-run" in dry.err
    wrong = await console("sessions", "end", session_id, "not an id")
    assert (wrong.code, wrong.out) == (2, "")
    result = await console("sessions", "end", session_id, session_id)
    assert result.code == 1
    assert result.out == f"{session_id} ended\n"
    assert result.err.startswith(f"{session_id}: SESSION_NOT_FOUND: ")
    with pytest.raises(SessionNotFound):
        await caller.sessions.get(session_id)


async def test_all_sessions_of_a_user_are_ended_after_a_question(
    console: Console, caller: SessionService
) -> None:
    """`sessions end --user` ends nothing in a dry run or without an answer, and all with --yes."""
    for _ in range(3):
        await caller.sessions.create(ANN, AGENT)
    other = (await caller.sessions.create(BOB, AGENT)).session_id
    dry = await console("sessions", "end", "--user", ANN, "--dry-run")
    assert (dry.code, dry.out) == (0, "3 sessions would end\n")
    unanswered = await console("sessions", "end", "--user", ANN)
    assert unanswered.code == 1
    assert "3 sessions will end" in unanswered.err
    assert "--yes" in unanswered.err
    assert (await caller.sessions.list_page(user_id=ANN)).total == 3
    done = await console("sessions", "end", "--user", ANN, "--yes")
    assert (done.code, done.out) == (0, "3 sessions ended\n")
    assert [each.session_id async for each in caller.sessions.list()] == [other]


@pytest.mark.parametrize(
    "arguments",
    [(), (ANN, "--all"), ("--all", "--user", ANN), ("--user", "not-an-id"), ("not an id",)],
)
async def test_a_selection_that_is_none_ends_nothing(
    console: Console, caller: SessionService, arguments: tuple[str, ...]
) -> None:
    """`sessions end` ends nothing if its selection is missing, ambiguous or no id."""
    await caller.sessions.create(ANN, AGENT)
    assert (await console("sessions", "end", "--yes", *arguments)).code in (1, 2)
    assert (await caller.sessions.list_page()).total == 1


async def test_problems_are_one_line(
    console: Console, tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the service, no service, and options that cannot be used: a line and a code."""
    missing = await console("sessions", "show", "c573bfcf-4d3e-4a16-a194-30faf9ec1102")
    assert missing.code == 1
    assert missing.err.startswith("SESSION_NOT_FOUND: ")
    away = await console("sessions", "list", url=f"http://127.0.0.1:{unused_tcp_port}")
    assert away.code == 1
    assert away.err == (
        f"cannot connect to http://127.0.0.1:{unused_tcp_port}: the connection was refused\n"
        "Is the service running? Name another with --url.\n"
    )
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text("one\ntwo\n")
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    for option, value, told in (
        ("--key-file", str(tmp_path / "none"), "No such file"),
        ("--key-file", str(tmp_path / "empty"), "must have one API key"),
        ("--key-file", str(tmp_path / "two"), "must have one API key"),
        ("--url", "localhost:3000", "the URL of the service must be like"),
        ("--url", "http://localhost:99999", "the URL of the service must be like"),
        ("--url", "memory://", "session-service[memory]"),
    ):
        wrong = await console("sessions", "list", option, value)
        assert wrong.code == 2
        assert told in wrong.err
        assert len(wrong.err.splitlines()) == 1


class TestWithAccessControl:
    @pytest.fixture
    def service(self, store: Store) -> AppState:
        return app_state(store, access=KnownCredentials())

    async def test_the_key_of_the_file_is_used(
        self, client: Client, console: Console, tmp_path: Path
    ) -> None:
        """The key of --key-file opens its agent's sessions only; without it there are none."""
        session_id = await create(client)
        await create(client, agent=OTHER_AGENT)
        refused = await console("sessions", "list")
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("UNAUTHORIZED: ")
        key = tmp_path / "key"
        key.write_text("bound\n")
        listed = await console("sessions", "list", "--json", "--key-file", str(key))
        assert [each["sessionId"] for each in listed.lines] == [session_id]
