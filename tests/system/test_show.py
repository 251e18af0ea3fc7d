"""``session-service show`` reads the store of the settings, of any topology."""

from pathlib import Path
from typing import Any

import pytest

from chaos.stores.cluster import cluster_group
from chaos.stores.sentinel import sentinel_group
from session_service.composition import open_store
from session_service.settings import Settings
from session_service.store.client.factory import connect
from tests.support.api import SESSIONS, create, post
from tests.support.factories import create_session
from tests.support.processes import Start, run

MISSING = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"


async def test_a_session_is_shown_by_its_id_or_the_name_of_its_key(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    """A session is found by its id in either case, and by the name of its key, quoted or not."""
    service = start(REDIS_URL=store_url)
    async with service.client() as client:
        session = await create(client)
    session_id = session["sessionId"]
    name = f"session-service:{{{session_id[:2]}}}:{session_id}"
    shown = [
        run(tmp_path, "show", key, REDIS_URL=store_url)
        for key in (session_id, session_id.upper(), name, f'"{name}"')
    ]
    assert [each.returncode for each in shown] == [0] * 4
    for each in shown:
        lines = each.stdout.splitlines()
        assert lines[0] == name
        assert f"agent          {session['agentId']}" in lines
        assert f"created        {session['createdAt']}" in lines


async def test_the_embedded_store_is_read_while_the_service_runs(
    start: Start, tmp_path: Path
) -> None:
    """Without REDIS_URL, the running service's own store is read; one line says if none runs."""
    settings = {"SESSION_DATA_DIR": str(tmp_path / "data")}
    with start(**settings) as service:
        async with service.client() as client:
            session_id = (await create(client))["sessionId"]
            message = {"content": "red \x1b[31m\x9b31m"}
            await post(client, f"{SESSIONS}/{session_id}/messages", message)
        key = f"session-service:{{{session_id[:2]}}}:msg:{session_id}"
        shown = run(tmp_path, "show", key, **settings)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert r"red \u001b[31m\x9b31m" in shown.stdout  # stored text does not control a terminal
    stopped = run(tmp_path, "show", key, **settings)
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert stopped.stderr.startswith(f"no service runs on {tmp_path / 'data'}: ")


@pytest.mark.parametrize("group", [cluster_group, sentinel_group])
async def test_a_cluster_and_a_sentinel_group_are_read(group: Any, tmp_path: Path) -> None:
    """A key is read from the server that has it."""
    async with group(tmp_path / "group") as stores:
        async with open_store(Settings(redis_url=stores.url)) as store:
            sessions = [await create_session(store.repository) for _ in range(5)]
        for session in sessions:
            shown = run(tmp_path, "show", session.id, REDIS_URL=stores.url)
            assert (shown.returncode, shown.stderr) == (0, "")
            assert f"user           {session.user_id}" in shown.stdout.splitlines()


async def test_other_keys_are_shown_as_they_are(store_url: str, tmp_path: Path) -> None:
    """A key that is not of the service is shown as bytes, with a line that says so."""
    client = connect(store_url, 5)
    await client.set("other", b"\x00\xff", px=60_000)
    await client.aclose()
    shown = run(tmp_path, "show", "other", REDIS_URL=store_url)
    assert shown.returncode == 0
    name, kind, about, blank, value = shown.stdout.splitlines()
    assert (name, kind) == ("other", "not a key of this service, by its name")
    assert about.startswith("string, 2 bytes, for another 0:00:")
    assert (blank, value) == ("", r"b'\x00\xff'")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "session-service:{3f}:3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836 does not exist\n"),
        ("redis://:secret@127.0.0.1:1/0", "the store cannot be read: "),
        ("redis+cluster://:secret@127.0.0.1:1", "the store cannot be read: "),
        ("redis+sentinel://:secret@127.0.0.1:1/main", "the store cannot be read: "),
        ("memory://", "REDIS_URL is memory://, which only the service's own process can read\n"),
    ],
)
def test_what_cannot_be_shown_exits_with_1(
    store_url: str, tmp_path: Path, url: str, problem: str
) -> None:
    """A key that does not exist, or a store that cannot be read, is one line and exit code 1."""
    shown = run(tmp_path, "show", MISSING, REDIS_URL=url or store_url)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith(problem)
    assert shown.stderr.count("\n") == 1
    assert "secret" not in shown.stderr
