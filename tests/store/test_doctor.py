"""``session-service doctor``: finds planted misconfigurations, and nothing in a healthy set-up."""

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from chaos.stores.server import free_port
from session_service import commands
from session_service.domain.findings import Finding
from session_service.environment import Reader
from session_service.process.doctor import diagnose
from session_service.store.embedded.server import EmbeddedServer
from tests.store.test_permissions import documented_rules
from tests.support.clocks import SettableClock, library
from tests.support.servers import store_server, valkey_binary
from tests.support.tools import skip_without

Environment = dict[str, str]

LONG = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    """A store in order, which each test may change and restores."""
    with store_server(valkey_binary(), "--appendonly", "yes") as url, Redis.from_url(url) as client:
        yield client


@pytest.fixture
def environment(server: Redis, tmp_path: Path) -> Environment:
    """The settings of a healthy set-up."""
    return {"REDIS_URL": url_of(server), "SESSION_DATA_DIR": str(tmp_path / "data")}


def url_of(server: Redis, login: str = "") -> str:
    return f"unix://{login}{server.connection_pool.connection_kwargs['path']}"


@contextmanager
def configured(server: Redis, **values: str) -> Iterator[None]:
    """Set options of the store, e.g. ``maxmemory_policy="allkeys-lru"``."""
    names = {name.replace("_", "-"): value for name, value in values.items()}
    before = {name: str(server.config_get(name)[name]) for name in names}
    for name, value in names.items():
        server.config_set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            server.config_set(name, value)


def problems(environment: Environment) -> dict[str, Finding]:
    """Return the findings that are not in order, by their ids."""
    found = {each.id: each for each in diagnose(Reader(environment)) if each.level != "ok"}
    assert all(each.problem and each.remedy for each in found.values())
    return found


def assert_found(environment: Environment, name: str, level: str, text: str) -> None:
    """Assert that there is one finding, with this id and level, which contains the text."""
    found = problems(environment)
    assert {name: level} == {each.id: each.level for each in found.values()}, found
    assert text in found[name].problem


def test_a_healthy_set_up_has_no_finding(environment: Environment) -> None:
    """In a healthy set-up every check is in order, and each has run."""
    findings = diagnose(Reader(environment))
    assert {each.level for each in findings} == {"ok"}, findings
    assert {"store", "clock", "persistence", "permissions", "proxies"} <= {f.id for f in findings}


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("eviction", "allkeys-lru", {"maxmemory_policy": "allkeys-lru"}),
        ("persistence", "does not write to disk", {"appendonly": "no"}),
        ("store-full", "it refuses new data", {"maxmemory": "100kb"}),
        ("replicas", "too few replicas", {"min_replicas_to_write": "1"}),
    ],
)
def test_options_of_the_store_are_found(
    server: Redis, environment: Environment, name: str, text: str, values: dict[str, str]
) -> None:
    """An option of the store that loses sessions, or with which writes fail, is found."""
    with configured(server, **values):
        found = problems(environment)
        assert found[name].level == "error"
        assert text in found[name].problem
        assert found.keys() - {"store-memory"} == {name}
    assert problems(environment) == {}


def test_a_replica_is_found(server: Redis, environment: Environment) -> None:
    """A replica in place of the master is found."""
    server.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    try:
        assert "the store is a replica: it refuses all changes" in [
            each.problem for each in problems(environment).values()
        ]
    finally:
        server.execute_command("REPLICAOF", "NO", "ONE")


def test_a_missing_permission_is_found(server: Redis, environment: Environment) -> None:
    """A command that the store's user may not run is named."""
    rules = [rule for rule in documented_rules() if rule != "+xadd"]
    server.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *rules)
    environment["REDIS_URL"] = url_of(server, "app:secret@")
    assert_found(environment, "permissions", "error", "is not permitted XADD")
    environment["REDIS_URL"] = url_of(server, "app:wrong@")
    assert_found(environment, "store", "error", "invalid username-password")
    server.execute_command("ACL", "DELUSER", "app")


@pytest.mark.parametrize(
    ("level", "text", "version"),
    [("error", "data of an older format", 1), ("warning", "a newer version has written", 3)],
)
def test_data_of_another_version_is_found(
    server: Redis, environment: Environment, level: str, text: str, version: int
) -> None:
    """Data of an older or a newer format is found."""
    server.hset("session-service:{00}:meta", mapping={"format": version, "epoch": "0"})
    try:
        assert_found(environment, "data-format", level, text)
    finally:
        server.delete("session-service:{00}:meta")


def test_a_store_of_another_kind_is_found(server: Redis, environment: Environment) -> None:
    """The scheme of a cluster for a single server is found, and so is a store that is away."""
    port = free_port()
    environment["REDIS_URL"] = f"redis+cluster://127.0.0.1:{port}"
    environment["SESSION_STORE_TIMEOUT_SECONDS"] = "0.2"
    assert_found(environment, "store", "error", "cannot be reached")
    with configured(server, port=str(port)):
        assert_found(environment, "store-kind", "error", "is a single server")


def test_a_wrong_clock_is_found(environment: Environment, tmp_path: Path) -> None:
    """A store whose clock is 90 s ahead is found."""
    if library() is None:
        skip_without("libfaketime")
    clock = SettableClock(tmp_path)
    clock.set(90)
    with store_server(valkey_binary(), "--appendonly", "yes", environment=clock.environment) as url:
        environment["REDIS_URL"] = url
        assert_found(environment, "clock", "error", "clock is 90.0 s ahead of ours")


@pytest.mark.parametrize(
    ("name", "level", "text", "settings"),
    [
        ("settings", "error", "TRUSTED_PROXIES='10.0.0.1/8'", {"TRUSTED_PROXIES": "10.0.0.1/8"}),
        ("settings", "warning", "SESSION_DATADIR is set", {"SESSION_DATADIR": "/data"}),
        ("settings", "warning", "RATE_LIMIT_USER has no effect", {"RATE_LIMIT_USER": "1/1s"}),
        ("exposure", "error", "HOST is 0.0.0.0", {"HOST": "0.0.0.0"}),  # noqa: S104 - tested here
        ("proxies", "error", "TRUSTED_PROXIES has 0.0.0.0/0", {"TRUSTED_PROXIES": "0.0.0.0/0"}),
        ("proxies", "warning", "there is a proxy", {"ALLOWED_HOSTS": "chat.example.org"}),
        ("origins", "error", "every web page", {"SESSION_CORS_ORIGINS": "*"}),
        ("hosts", "warning", "DNS rebinding", {"ALLOWED_HOSTS": "*", "TRUSTED_PROXIES": "::1"}),
        ("secrets", "warning", "so short", {"ELIZA_SERVER_AUTH_TOKEN": LONG[:31]}),
        ("secrets", "error", "repeats", {"AUTH": "on", "ELIZA_SERVER_AUTH_TOKEN": "ab" * 16}),
        ("api-keys", "error", "there is no valid API key", {"AUTH": "on"}),
        ("webhooks", "warning", "every private", {"SESSION_WEBHOOKS_ALLOW_PRIVATE": "true"}),
        ("webhooks", "warning", "nothing is delivered", {"SESSION_WEBHOOKS_PAUSED": "true"}),
        ("workers", "warning", "WEB_CONCURRENCY is 64", {"WEB_CONCURRENCY": "64"}),
        ("write-ack", "error", "no replica", {"WRITE_ACK": "replica"}),
        ("open-files", "warning", "of open files allows", {"SESSION_MAX_CONNECTIONS": "500000"}),
    ],
)
def test_settings_are_found(
    environment: Environment, name: str, level: str, text: str, settings: Environment
) -> None:
    """Settings that are not allowed, have no effect or are dangerous are found."""
    if name == "workers" and (os.cpu_count() or 1) >= 64:
        pytest.skip("this machine has 64 cores")
    assert_found({**environment, **settings}, name, level, text)


def test_exposure_that_is_meant_is_in_order(environment: Environment) -> None:
    """Access control, or AUTH=off, makes listening on all addresses no finding."""
    environment["HOST"] = "::"
    for settings in ({"AUTH": "off"}, {"ELIZA_SERVER_AUTH_TOKEN": LONG}):
        assert problems({**environment, **settings}) == {}


def test_a_secret_file_that_others_can_read_is_found(
    environment: Environment, tmp_path: Path
) -> None:
    """The file of a secret that every user can read is found."""
    file = tmp_path / "url"
    file.write_text(environment.pop("REDIS_URL"))
    file.chmod(0o644)
    environment["REDIS_URL_FILE"] = str(file)
    assert_found(environment, "secret-files", "warning", f"the file of REDIS_URL, {file}")
    file.chmod(0o600)
    assert problems(environment) == {}


def test_the_data_directory_is_checked(tmp_path: Path) -> None:
    """A directory that others can read is found; a store that does not run is not checked."""
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    environment = {"SESSION_DATA_DIR": str(data), "SESSION_DATA_MAX_MEMORY": "0"}
    found = problems(environment)
    assert {each.id: each.level for each in found.values()} == {
        "data-directory": "error",
        "memory": "warning",
        "store": "warning",
    }
    assert f"others on this machine can read {data}" in found["data-directory"].problem
    data.chmod(0o700)
    del environment["SESSION_DATA_MAX_MEMORY"]
    assert_found(environment, "store", "warning", f"no service runs on {data}")


async def test_the_store_of_a_running_service_is_checked(tmp_path: Path) -> None:
    """Without REDIS_URL, the embedded store of the data directory is checked, and is in order."""
    server = EmbeddedServer(tmp_path / "data")
    await server.start()
    try:
        environment = {"SESSION_DATA_DIR": str(tmp_path / "data")}
        findings = await asyncio.to_thread(diagnose, Reader(environment))
        assert {each.level for each in findings} == {"ok"}, findings
        assert "append-only file" in next(f.problem for f in findings if f.id == "persistence")
    finally:
        await server.stop()


def test_the_exit_code_is_that_of_the_worst_finding(
    environment: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors exit with 1, warnings only with --strict; JSON has all findings, errors first."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def run(*options: str, **settings: str) -> tuple[int, str]:
        monkeypatch.setattr(os, "environ", {**environment, **settings})
        code = commands.run(["doctor", *options])
        return code, capsys.readouterr().out

    try:
        assert run()[0] == run("--strict")[0] == 0
        assert run(SESSION_WEBHOOKS_PAUSED="true")[0] == 0
        assert run("--strict", SESSION_WEBHOOKS_PAUSED="true")[0] == 1
        code, text = run("--json", SESSION_CORS_ORIGINS="*", SESSION_WEBHOOKS_PAUSED="true")
        first, second, *rest = json.loads(text)["findings"]
        assert (code, first["id"], second["id"]) == (1, "origins", "webhooks")
        assert {each["level"] for each in rest} == {"ok"}
        assert "→ name the origins of your pages" in run(SESSION_CORS_ORIGINS="*")[1]
    finally:
        root.handlers = handlers
        root.setLevel(level)
