"""``session-service keys``: made on the host, API keys work on every node of a running service."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from redis import Redis

from chaos.stores.cluster import cluster_group
from chaos.stores.sentinel import sentinel_group
from session_service.domain.api_keys import read_key_id
from tests.support.api import SESSIONS
from tests.support.factories import ID, new_uuid
from tests.support.processes import ServiceProcess, Start, environment, run
from tests.support.waiting import wait_until

SCOPES = "sessions:read,sessions:write"
MANY = ",".join(new_uuid() for _ in range(17))
NO_KEY = "access control is on, and there is no valid API key"


def create(folder: Path, *options: str, **settings: str) -> str:
    """Create a key as an operator does; return it."""
    made = run(folder, "keys", "create", "billing", "--scopes", SCOPES, *options, **settings)
    assert made.returncode == 0, made.stderr
    return made.stdout.removesuffix("\n")


def id_of(key: str) -> str:
    key_id = read_key_id(key)
    assert key_id is not None
    return key_id


async def status(client: ClientSession, key: str) -> int:
    async with client.get(SESSIONS, params={"limit": "1"}, headers={"X-API-KEY": key}) as response:
        return response.status


async def wait_for(client: ClientSession, key: str, expected: int) -> None:
    async def has_answered() -> bool:
        return await status(client, key) == expected

    await wait_until(has_answered, 10, description=f"a key is answered {expected}")


def events(service: ServiceProcess) -> list[str]:
    return [line["event"] for line in service.log]


async def test_a_key_works_on_every_node_until_it_is_revoked(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    """Two running nodes accept a new key and both secrets of a rotated one, not a revoked one."""
    settings = {"REDIS_URL": store_url, "AUTH": "on"}
    nodes = [start(**settings), start(**settings, WEB_CONCURRENCY="2")]
    async with nodes[0].client() as one, nodes[1].client() as two:
        key, other = create(tmp_path, **settings), create(tmp_path, **settings)
        for client in (one, two):
            await wait_for(client, key, 200)
        rotated = run(tmp_path, "keys", "rotate", id_of(key), **settings)
        new_key = rotated.stdout.removesuffix("\n")
        assert id_of(new_key) == id_of(key)
        for client in (one, two):
            await wait_for(client, new_key, 200)
            assert await status(client, key) == 200
        revoked = run(tmp_path, "keys", "revoke", id_of(key), **settings)
        assert (revoked.returncode, revoked.stdout) == (0, "")
        for client in (one, two):
            for text in (key, new_key):
                await wait_for(client, text, 401)
            assert await status(client, other) == 200
    key_id = id_of(key)
    for node in nodes:
        changes = [line for line in node.log if line["event"] == "API keys have changed"]
        for change, ids in (("new", {key_id, id_of(other)}), ("rotated", {key_id})):
            assert {each for line in changes for each in line.get(change, ())} == ids
        assert {each for line in changes for each in line.get("revoked", ())} == {key_id}
        assert not [each for each in (key, new_key, other) if each in node.stderr]


async def test_the_store_of_a_running_service_is_reached(start: Start, tmp_path: Path) -> None:
    """Without REDIS_URL, keys are those of the service that runs on the data directory."""
    settings = {"SESSION_DATA_DIR": str(tmp_path / "data"), "AUTH": "on"}
    with start(**settings) as service:
        async with service.client() as client:
            await wait_for(client, create(tmp_path, **settings), 200)
    stopped = run(tmp_path, "keys", "list", **settings)
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert stopped.stderr.startswith(f"no service runs on {tmp_path / 'data'}: start it")


@pytest.mark.parametrize("group", [cluster_group, sentinel_group])
async def test_keys_are_kept_in_a_cluster_and_in_a_sentinel_group(
    group: Any, tmp_path: Path
) -> None:
    """The commands work on a store of any topology."""
    async with group(tmp_path / "group") as stores:
        settings = {"REDIS_URL": stores.url, "AUTH": "on"}
        key_id = id_of(create(tmp_path, **settings))
        assert run(tmp_path, "keys", "revoke", key_id, **settings).returncode == 0
        listed = run(tmp_path, "keys", "list", **settings)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert listed.stdout.splitlines()[1].startswith(f"{key_id}  revoked  ")


def test_keys_are_listed_without_their_secrets(store_url: str, tmp_path: Path) -> None:
    """A line for each key has its id, state, times, scopes, agents and name."""
    settings = {"REDIS_URL": store_url, "AUTH": "on"}
    empty = run(tmp_path, "keys", "list", **settings)
    assert (empty.returncode, empty.stdout) == (0, "")
    assert empty.stderr.startswith("there is no API key; `session-service keys create ")
    revoked = create(tmp_path, **settings)
    run(tmp_path, "keys", "revoke", id_of(revoked), **settings)
    bound = create(tmp_path, "--agents", ID.upper(), "--expires-in-days", "7", **settings)
    with Redis.from_url(store_url) as store:
        store.hset("session-service:{00}:api-keys", mapping={"\x1b[2J": "garbage", "version": "x"})
    listed = run(tmp_path, "keys", "list", **settings)
    assert (listed.returncode, listed.stderr) == (0, "")
    head, *rows = [line.split() for line in listed.stdout.splitlines()]
    assert head == ["ID", "STATE", "CREATED", "EXPIRES", "SCOPES", "AGENTS", "NAME"]
    assert [[*row[:2], *row[4:]] for row in rows] == [
        [id_of(revoked), "revoked", SCOPES, "all", "billing"],
        [id_of(bound), "valid", SCOPES, ID, "billing"],
        [r"\x1b[2J", "unreadable", "-", "-", "-"],
    ]
    assert [row[3] == "never" for row in rows] == [True, False, False]
    assert not [key for key in (revoked, bound) if key.split("_")[2] in listed.stdout]


def test_a_new_key_is_alone_on_standard_output(store_url: str, tmp_path: Path) -> None:
    """Standard error has its id and its expiry, and says if access control is off."""
    command = ("keys", "create", "billing", "--scopes", SCOPES, "--expires-in-days", "1")
    made = run(tmp_path, *command, REDIS_URL=store_url)
    assert made.returncode == 0
    assert made.stdout.count("\n") == 1
    off, about = made.stderr.splitlines()
    assert off.startswith("access control is off, so the service accepts requests without a key")
    assert about.startswith(f"API key {id_of(made.stdout.strip())} is valid until 2")
    on = run(tmp_path, *command, REDIS_URL=store_url, AUTH="on")
    audited, about = on.stderr.splitlines()
    assert json.loads(audited)["event"] == "key.created"
    assert about.startswith(f"API key {id_of(on.stdout.strip())} is valid until 2")


def test_changes_of_keys_are_audited(store_url: str, tmp_path: Path) -> None:
    """Creating, rotating and revoking have a line each, with the operator, and no part of a key."""
    settings = {"REDIS_URL": store_url, "AUTH": "on", "LOG_LEVEL": "error"}
    made = run(tmp_path, "keys", "create", "billing", "--scopes", SCOPES, **settings)
    key_id = id_of(made.stdout.strip())
    rotated = run(tmp_path, "keys", "rotate", key_id, "--overlap-hours", "3", **settings)
    revoked = run(tmp_path, "keys", "revoke", key_id, **settings)
    unknown = run(tmp_path, "keys", "revoke", "00000000", **settings)
    done = [each.stderr.splitlines() for each in (made, rotated, revoked, unknown)]
    entries = [json.loads(line) for lines in done for line in lines if line.startswith("{")]
    assert [each["event"] for each in entries] == ["key.created", "key.rotated", "key.revoked"]
    assert entries[0]["scopes"] == SCOPES.split(",")
    assert entries[1]["overlap_hours"] == 3
    for each in entries:
        found = each["logger"], each["key"], each["credential_kind"], each["outcome"]
        assert found == ("session_service.audit", key_id, "host", "done")
    for text in (made.stdout, rotated.stdout):
        assert text.split("_")[2] not in "".join(map("".join, done))


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("create", "x", "--scopes", "sessions:all"), "--scopes must be one or more of sessions:"),
        (("create", "x", "--scopes", ""), "--scopes must be one or more of sessions:"),
        (
            ("create", "x", "--scopes", SCOPES, "--agents", "support"),
            "--agents must be 1 to 16 UUIDs: 'support' is none",
        ),
        (
            (
                "create",
                "x",
                "--scopes",
                SCOPES,
                "--agents",
                MANY,
            ),
            "--agents must be 1 to 16 UUIDs: there are 17",
        ),
        (("create", "", "--scopes", SCOPES), "NAME must be 1 to 64 printable characters"),
        (("revoke", "ssk_secret"), "ID must be the 8 letters and digits"),
        (("rotate", "7K2M9X4Q"), "ID must be the 8 letters and digits"),
    ],
    ids=lambda each: each if isinstance(each, str) else each[0],
)
def test_what_is_not_allowed_is_one_line(
    tmp_path: Path, command: tuple[str, ...], problem: str
) -> None:
    """Wrong options exit with 2 and one line, before the store is reached."""
    done = run(tmp_path, "keys", *command, AUTH="on", REDIS_URL="redis://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(problem)
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_a_key_that_does_not_exist_exits_with_1(
    store_url: str, tmp_path: Path, command: str
) -> None:
    """One line names the id, and the command that lists all keys."""
    done = run(tmp_path, "keys", command, "00000000", AUTH="on", REDIS_URL=store_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "API key 00000000; `session-service keys list` shows all" in done.stderr


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://:secret@127.0.0.1:1/0", "the store cannot be used: "),
        ("memory://", "REDIS_URL is memory://, which only the service's own process can read"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(tmp_path: Path, url: str, problem: str) -> None:
    """The exit code is 1, and no password is shown."""
    command = ("keys", "create", "x", "--scopes", SCOPES)
    done = run(tmp_path, *command, AUTH="on", REDIS_URL=url, SESSION_STORE_TIMEOUT_SECONDS="0.5")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(problem)
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is a device of Linux")
def test_a_key_that_cannot_be_printed_is_named(store_url: str, tmp_path: Path) -> None:
    """If standard output cannot be written, the exit code is 1, and the key can be revoked."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "session_service", "keys", "create", "x", "--scopes", SCOPES],
            env=environment(tmp_path, REDIS_URL=store_url, AUTH="on"),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    _, about, problem = done.stderr.splitlines()
    assert about.startswith("API key ")
    assert problem == "session-service: No space left on device"
    revoked = run(tmp_path, "keys", "revoke", about.split()[2], AUTH="on", REDIS_URL=store_url)
    assert revoked.returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_start_says_how_to_create_a_key(
    start: Start, store_url: str, tmp_path: Path, workers: str
) -> None:
    """One line says so if there is no valid key, also after the data set was lost."""
    settings = {"REDIS_URL": store_url, "AUTH": "on", "WEB_CONCURRENCY": workers}
    with start(**settings) as without:
        assert without.start_line
        (line,) = [each for each in events(without) if each.startswith(NO_KEY)]
        assert "`session-service keys create NAME --scopes " in line
        create(tmp_path, **settings)
    with start(**settings) as with_a_key:
        assert with_a_key.start_line
        assert not [each for each in events(with_a_key) if each.startswith(NO_KEY)]
    with Redis.from_url(store_url) as store:
        store.flushall()
    with start(**settings) as after_the_loss:
        assert after_the_loss.start_line
        assert len([each for each in events(after_the_loss) if each.startswith(NO_KEY)]) == 1


async def test_no_key_is_needed_beside_a_token(start: Start, store_url: str) -> None:
    """With ELIZA_SERVER_AUTH_TOKEN the start says nothing about keys; it warns of a short token."""
    token = "t" * 31
    service = start(REDIS_URL=store_url, ELIZA_SERVER_AUTH_TOKEN=token)
    async with service.client() as client:
        assert await status(client, token) == 200
    (line,) = [each for each in events(service) if "ELIZA" in each or each.startswith(NO_KEY)]
    assert line.startswith("ELIZA_SERVER_AUTH_TOKEN is so short that it may be guessed")
    assert token not in service.stderr
    longer = start(REDIS_URL=store_url, ELIZA_SERVER_AUTH_TOKEN=token + "t")
    assert longer.start_line
    assert not [each for each in events(longer) if "ELIZA" in each or each.startswith(NO_KEY)]


@pytest.mark.parametrize(
    ("settings", "is_warned"), [({}, True), ({"AUTH": "off"}, False), ({"AUTH": "on"}, False)]
)
def test_the_start_warns_of_other_machines_without_access_control(
    start: Start, store_url: str, settings: dict[str, str], *, is_warned: bool
) -> None:
    """Listening beyond loopback logs a line if access control is off; AUTH=off silences it."""
    every = "0.0.0.0"  # noqa: S104 - what is tested
    service = start(REDIS_URL=store_url, HOST=every, **settings)
    assert service.start_line
    lines = [each for each in events(service) if each.startswith("other machines may reach")]
    assert len(lines) == is_warned
