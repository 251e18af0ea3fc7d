"""The commands ``sessions export`` and ``sessions import``, on one store: they see the API only."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from redis.asyncio import Redis

from session_service.client import SessionService, TimeoutSettings
from session_service.composition import Store
from session_service.domain.sessions import SessionLimits
from session_service.web.http.state import AppState
from tests.support.access import AGENT, ANN, BOB, OTHER_AGENT, KnownCredentials
from tests.support.api import Client
from tests.support.console import Console, Output
from tests.support.factories import own_key
from tests.support.service import app_state
from tests.support.waiting import wait_until

TEXT = 'Größe \u2028 ☃ 🙂 \x00 \\ "'
AWKWARD = {
    "float": 1.0,
    "tiny": 5e-324,
    "huge": 1e300,
    "big": 2**63 + 1,
    "text": TEXT,
    "nested": {"null": None, "": [[], {}, [True, {"a": -0.0}]]},
}
ATTACHMENTS = [{"url": "https://files.example/a.png", "type": "image", "extra": [1.5]}]


@pytest.fixture
def store_url(valkey_url: str) -> str:
    return valkey_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.jsonl"


async def content_of(caller: SessionService) -> list[Any]:
    """Return all sessions as an import keeps them, in an order of their own."""
    return sorted([await _content(caller, each) async for each in caller.sessions.list()], key=str)


async def _content(caller: SessionService, session: Any) -> list[Any]:
    messages = [
        [each.content, each.author_id, json.dumps(each.metadata), each.attachments]
        async for each in caller.messages.list(session.session_id, after=0)
    ]
    metadata = json.dumps(session.metadata)
    return [session.user_id, session.agent_id, metadata, session.timeout_config, messages]


def ids_of(file: Path) -> dict[str, str]:
    """Return the new ids by the old ones, of the file of an import."""
    results = [json.loads(line) for line in Path(f"{file}.ids").read_bytes().splitlines()[1:]]
    assert len({each["old"] for each in results}) == len(results)
    return {each["old"]: each["new"] for each in results}


def read(file: Path) -> bytes:
    return file.read_bytes()


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def mode_of(file: Path) -> int:
    return file.stat().st_mode & 0o777


def open_text(file: Path) -> TextIO:
    return file.open()


def edit(file: Path, old: str, new: str) -> None:
    write(file, read(file).replace(old.encode(), new.encode()))


async def test_a_round_trip_keeps_the_content(
    console: Console, caller: SessionService, file: Path
) -> None:
    """Users, agents, metadata, timeouts and messages are kept; the old and new ids are printed."""
    timeouts = TimeoutSettings(
        timeout_minutes=7.00005,
        auto_renew=False,
        max_duration_minutes=8.5,
        warning_threshold_minutes=0.25,
    )
    created = await caller.sessions.create(ANN, AGENT, metadata=AWKWARD, timeout_config=timeouts)
    first = created.session_id
    await caller.messages.send(first, TEXT, metadata=AWKWARD, attachments=ATTACHMENTS)
    for n in range(9):  # more than a page of 1 MiB
        await caller.messages.send(first, f"{n}" * 130_000, author_id=AGENT)
    second = (await caller.sessions.create(BOB, OTHER_AGENT)).session_id
    before = await content_of(caller)

    exported = await console("sessions", "export", "--output", str(file), "--json")
    assert json.loads(exported.out) == {"sessions": 2, "messages": 10, "ended": 0, "unreadable": 0}
    assert exported.code == 0
    assert mode_of(file) == 0o600
    plain = await console("sessions", "export", "--no-messages")
    kinds = [line.split(b'"')[1] for line in plain.out.encode().splitlines()]
    assert kinds == [b"export", b"session", b"session", b"end"]
    await caller.sessions.end_many(all_=True)
    imported = await console("sessions", "import", str(file))
    assert (imported.code, imported.err) == (0, "2 sessions with 10 messages imported\n")
    assert dict(line.split() for line in imported.out.splitlines()) == ids_of(file)
    assert {*ids_of(file)} == {first, second}
    assert await content_of(caller) == before


async def test_a_pipe_has_the_sessions_of_a_user(
    console: Console,
    caller: SessionService,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without files, standard output and input are used; an input that is cut off can follow."""

    async def pipe(content: str, *options: str) -> Output:
        write(file, content.encode())
        with open_text(file) as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            return await console("sessions", "import", "-", "--json", *options)

    session_id = (await caller.sessions.create(BOB, AGENT)).session_id
    for text in ("first", "second"):
        await caller.messages.send(session_id, text)
    await caller.sessions.create(ANN, AGENT)
    exported = (await console("sessions", "export", "--user", BOB)).out
    await caller.sessions.end_many(all_=True)
    assert (await pipe(exported)).code == 0
    assert (await caller.sessions.list_page()).total == 1

    ids = ("--ids", str(tmp_path / "ids"))
    cut = await pipe(exported[: exported.index("second")], *ids)
    assert (cut.code, cut.out) == (1, "")
    assert "the export is cut off" in cut.err
    followed = await pipe(exported, *ids, "--resume")
    assert (followed.code, [each["old"] for each in followed.lines]) == (0, [session_id])
    first, second = await content_of(caller)
    assert first == second
    assert [message[0] for message in first[-1]] == ["first", "second"]


async def test_an_export_goes_on_after_its_last_page(
    console: Console, caller: SessionService, file: Path
) -> None:
    """After an interruption, an export has each session once, and its last line is not torn."""
    created = await asyncio.gather(*(caller.sessions.create(ANN, AGENT) for _ in range(101)))
    for each in created[::20]:
        await caller.messages.send(each.session_id, "Hello")
    export = ("sessions", "export", "--output", str(file))
    assert (await console(*export)).code == 0
    whole = read(file)
    assert whole.count(b'\n{"position":') == 1
    for length in (10, 300, len(whole) - 400, len(whole) - 1):
        write(file, whole[:length])
        assert (await console("sessions", "import", str(file))).code == 2
        resumed = await console(*export, "--resume")
        assert resumed.code == 0, resumed.err
        lines = [json.loads(line) for line in read(file).splitlines()]
        listed = [line["session"]["sessionId"] for line in lines if "session" in line]
        assert sorted(listed) == sorted(each.session_id for each in created)
        assert sum("message" in line for line in lines) == 6
        assert lines[-1] == {"end": {"sessions": 101, "messages": 6, "ended": 0, "unreadable": 0}}
    whole = read(file)
    complete = await console(*export, "--resume")
    assert (complete.code, read(file)) == (0, whole)


async def test_an_import_goes_on_without_doubles(
    console: Console, caller: SessionService, file: Path
) -> None:
    """After an interruption at any moment, an import has each session and message once."""
    for n in range(6):
        session_id = (await caller.sessions.create(ANN, AGENT, metadata={"n": n})).session_id
        for text in ("Hello", "Bye"):
            await caller.messages.send(session_id, text)
    before = await content_of(caller)
    await console("sessions", "export", "--output", str(file))
    await caller.sessions.end_many(all_=True)
    await console("sessions", "import", str(file))
    ids = Path(f"{file}.ids")
    whole, known = read(ids), ids_of(file)
    header = len(whole.splitlines(keepends=True)[0])
    for length in (header, header + 30, len(whole) - 200, len(whole)):
        write(ids, whole[:length])
        assert (await console("sessions", "import", str(file))).code == 2
        resumed = await console("sessions", "import", str(file), "--resume")
        assert resumed.code == 0, resumed.err
        assert ids_of(file) == known
        assert await content_of(caller) == before


class TestRefusals:
    @pytest.fixture
    def limits(self) -> SessionLimits:
        return SessionLimits(per_user=2, messages=2)

    async def test_the_others_are_imported(
        self, console: Console, caller: SessionService, file: Path
    ) -> None:
        """A session that the service refuses is named, does not stop the others, and can follow."""
        kept = (await caller.sessions.create(BOB, AGENT)).session_id
        for text in ("one", "two"):
            await caller.messages.send(kept, text)
        refused = (await caller.sessions.create(ANN, AGENT)).session_id
        await caller.messages.send(refused, "Hello")
        await console("sessions", "export", "--output", str(file))
        await caller.sessions.end_many(all_=True)
        mine = [(await caller.sessions.create(ANN, AGENT)).session_id for _ in range(2)]
        result = await console("sessions", "import", str(file))
        assert result.code == 1
        assert result.err.startswith(f"{refused}: TOO_MANY_SESSIONS: ")
        assert result.err.endswith("1 session with 2 messages imported; 1 was refused\n")
        assert result.out.startswith(f"{kept} ")
        await caller.sessions.end(mine[0])
        again = await console("sessions", "import", str(file), "--resume")
        assert again.code == 0
        assert again.out.startswith(f"{refused} ")
        assert (await caller.sessions.list_page()).total == 3

    async def test_a_session_lacks_only_the_messages_that_are_refused(
        self, console: Console, caller: SessionService, file: Path
    ) -> None:
        """A message that the service refuses is named by its session; the others are sent."""
        session_id = (await caller.sessions.create(ANN, AGENT)).session_id
        for text in ("replaced", "Hello"):
            await caller.messages.send(session_id, text)
        await console("sessions", "export", "--output", str(file))
        edit(file, "replaced", "x" * 4001)
        for resume in ((), ("--resume",)):
            result = await console("sessions", "import", str(file), *resume)
            assert result.code == 1
            assert "1 lacks messages" in result.err
        (new,) = [
            each.session_id
            async for each in caller.sessions.list()
            if each.session_id != session_id
        ]
        assert [each.content async for each in caller.messages.list(new)] == ["Hello"]

    async def test_timeouts_beyond_the_limits(
        self, console: Console, caller: SessionService, file: Path
    ) -> None:
        """Timeouts that the service does not allow are an error with the old id and the range."""
        session_id = (await caller.sessions.create(ANN, AGENT)).session_id
        await console("sessions", "export", "--output", str(file))
        edit(file, '"timeoutMinutes":30', '"timeoutMinutes":5000')
        result = await console("sessions", "import", str(file), "--json")
        assert result.code == 1
        assert f"{session_id}: VALIDATION_ERROR: timeoutConfig.timeoutMinutes must be" in result.err
        assert [each["old"] for each in result.lines] == [session_id]


async def test_what_cannot_be_read_is_counted(
    console: Console, caller: SessionService, redis: Redis, file: Path
) -> None:
    """An export leaves out sessions with damaged records or conversations, and fails."""
    ids = [(await caller.sessions.create(ANN, AGENT)).session_id for _ in range(3)]
    silent, lost, sound = ids
    await redis.set(own_key("messages", silent), "x", px=60_000)
    await redis.set(own_key("session", lost), "x", px=60_000)
    result = await console("sessions", "export", "--output", str(file))
    assert result.code == 1
    assert result.err.startswith(f"{silent}: RECORD_UNREADABLE: ")
    assert result.err.endswith("1 session with 0 messages; 2 cannot be read\n")
    assert [each for each in ids if each.encode() in read(file)] == [sound]


async def test_sessions_that_end_meanwhile_are_left_out(
    console: Console, caller: SessionService, file: Path
) -> None:
    """An export during which sessions end succeeds, and has the others, once each."""
    created = await asyncio.gather(*(caller.sessions.create(ANN, AGENT) for _ in range(50)))
    kept = {each.session_id for each in created[::10]}
    exporting = asyncio.create_task(console("sessions", "export", "--output", str(file)))
    await wait_until(lambda: exporting.done() or (file.exists() and read(file)), every=0.001)
    ending = (each.session_id for each in created if each.session_id not in kept)
    await asyncio.gather(*(caller.sessions.end(each) for each in ending))
    assert (await exporting).code == 0
    lines = [json.loads(line) for line in read(file).splitlines()]
    listed = Counter(line["session"]["sessionId"] for line in lines if "session" in line)
    assert kept <= {*listed}
    assert max(listed.values()) == 1
    end = lines[-1]["end"]
    assert end["sessions"] == len(listed)
    assert end["sessions"] + end["ended"] <= 50


async def test_wrong_use_changes_nothing(
    console: Console, caller: SessionService, file: Path, tmp_path: Path
) -> None:
    """Files that exist, are no export, or belong to another one are refused with a line."""
    await caller.sessions.create(ANN, AGENT)
    await console("sessions", "export", "--output", str(file))
    other, text = tmp_path / "other.jsonl", tmp_path / "text"
    await console("sessions", "export", "--output", str(other))
    write(text, b"Hello\n")
    await console("sessions", "import", str(file))
    for arguments in (
        ("export", "--output", str(file)),
        ("export", "--output", str(file), "--user", ANN, "--resume"),
        ("export", "--output", str(text), "--resume"),
        ("export", "--resume"),
        ("import", str(text)),
        ("import", "-", "--resume"),
        ("import", str(other), "--ids", f"{file}.ids", "--resume"),
    ):
        result = await console("sessions", *arguments)
        assert (result.code, result.out) == (2, ""), arguments
        assert result.err
    assert (await caller.sessions.list_page()).total == 2
    assert read(text) == b"Hello\n"


class TestWithAccessControl:
    @pytest.fixture
    def service(self, store: Store) -> AppState:
        return app_state(store, access=KnownCredentials())

    @pytest.fixture
    async def caller(self, client: Client) -> AsyncIterator[SessionService]:
        url = f"http://127.0.0.1:{client.port}"
        async with SessionService(url, api_key="all") as caller:
            yield caller

    async def test_a_missing_scope_stops_an_import(
        self, console: Console, caller: SessionService, file: Path, tmp_path: Path
    ) -> None:
        """Without messages:agent an import stops; with another key it goes on, without a double."""
        session_id = (await caller.sessions.create(ANN, AGENT)).session_id
        await caller.messages.send(session_id, "Hello")
        await caller.messages.send(session_id, "Hello to you", author_id=AGENT)
        keys = {name: tmp_path / name for name in ("all", "mute")}
        for name, path in keys.items():
            path.write_text(name)
        await console("sessions", "export", "--output", str(file), "--key-file", str(keys["all"]))
        stopped = await console("sessions", "import", str(file), "--key-file", str(keys["mute"]))
        assert stopped.code == 1
        assert "messages:agent" in stopped.err
        done = await console(
            "sessions", "import", str(file), "--key-file", str(keys["all"]), "--resume"
        )
        assert done.code == 0
        assert len({str(each) for each in await content_of(caller)}) == 1
        assert (await caller.sessions.list_page()).total == 2
