"""Settings from an environment (docs/settings.md)."""

import json
import re
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from session_service.domain.rates import RateLimit
from session_service.domain.sessions import SessionLimits
from session_service.environment import SECRETS, Reader
from session_service.rate_settings import RateSettings
from session_service.settings import Settings, SettingsError
from session_service.store.client.urls import read_url
from tests.support.factories import ID

OTHER_ID = "9b2c7f10-5e4d-4a8b-8c3f-7d1e6a0b5c92"


def problems(**environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    return caught.value.problems


def test_without_an_environment_there_are_defaults() -> None:
    """Without an environment the defaults and the embedded store are used."""
    settings = Settings.from_environment({})
    assert settings.listen_on == ("127.0.0.1", "::1")
    assert (settings.port, settings.redis_url, settings.warnings) == (3000, None, ())
    assert (settings.data_dir, settings.key_prefix) == (Path("data"), "session-service")
    assert (settings.store_timeout, settings.drain_seconds) == (2, 8)
    assert (settings.retention_minutes, settings.history_minutes) == (1440, 0)
    assert settings.limits == SessionLimits(1000, 10_000, 131_072)
    rules = settings.timeouts
    assert (rules.min_timeout, rules.default_timeout, rules.max_timeout) == (5, 30, 1440)
    assert (rules.default_max_duration, rules.default_warning) == (720, 5)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("HOST", "http://localhost", "addresses such as 127.0.0.1 or ::, or names"),
        ("HOST", "localhost:3000", "PORT has the port"),
        ("HOST", "127.0.0.1, a..b", "separated by commas"),
        ("SESSION_DATA_MAX_MEMORY", "2 gigabytes", "536870912, 512mb or 2gb; 0 for no limit"),
        ("SESSION_DATA_MAX_MEMORY", "-1", "a number of bytes"),
        ("PORT", "x", "a whole number, at least 0 and at most 65535"),
        ("PORT", "65536", "65535"),
        ("PORT", "80.5", "whole"),
        ("REDIS_URL", "http://localhost", "redis://, rediss://, unix://, redis+sentinel://"),
        ("REDIS_URL", "redis://", "redis:// with a host"),
        ("REDIS_URL", "unix://", "unix:// with a path"),
        ("REDIS_URL", "redis+sentinel://a,b", "redis+sentinel://host,host/service/db"),
        ("SESSION_KEY_PREFIX", "a{b}", "letters, digits"),
        ("SESSION_STORE_TIMEOUT_SECONDS", "0", "at least 0.05"),
        ("SESSION_DRAIN_SECONDS", "-1", "at least 0"),
        ("SESSION_EXPIRED_RETENTION_MINUTES", "0", "above 0"),
        ("SESSION_HISTORY_RETENTION_MINUTES", "-1", "at least 0 and at most 525600"),
        ("SESSION_EVENTS_MAX_LENGTH", "999", "a whole number, at least 1000"),
        ("SESSION_EVENTS_RETENTION_MINUTES", "10081", "above 0 and at most 10080"),
        ("SESSION_EVENTS_CONTENT", "yes", "true, false"),
        ("SESSION_MIN_TIMEOUT_MINUTES", "0", "above 0"),
        ("SESSION_MIN_TIMEOUT_MINUTES", "nan", "a number"),
        ("SESSION_MAX_TIMEOUT_MINUTES", "4", "at least 5"),
        ("SESSION_MAX_TIMEOUT_MINUTES", "inf", "a number"),
        ("SESSION_DEFAULT_TIMEOUT_MINUTES", "1441", "at most 1440"),
        ("SESSION_MAX_DURATION_MINUTES", "29", "at least 30"),
        ("SESSION_WARNING_THRESHOLD_MINUTES", "0", "above 0"),
        ("SESSION_WEBHOOKS_ALLOW_PRIVATE", "1", "true, false"),
        ("SESSION_WEBHOOKS_TIMEOUT_SECONDS", "0", "at least 0.1 and at most 60"),
        ("SESSION_WEBHOOKS_RETRY_SECONDS", "0", "at least 0.01 and at most 3600"),
        ("SESSION_WEBHOOKS_RETRY_HOURS", "0", "above 0 and at most 720"),
        ("SESSION_WEBHOOKS_MAX_QUEUED", "0", "a whole number, at least 1"),
        ("SESSION_CORS_ORIGINS", "a.example", "* or origins such as https://app.example.org"),
        ("SESSION_CORS_ORIGINS", "https://a.example/path", "separated by commas"),
        ("SESSION_CORS_ORIGINS", "https://*.a.example", "* or origins such as"),
        ("ALLOWED_HOSTS", "https://a.example", "* or hosts such as sessions.example.org"),
        ("ALLOWED_HOSTS", "a.example:3000", "separated by commas"),
        ("SESSION_AGENTS", "helper", "* or UUIDs, separated by commas"),
        ("WEB_CONCURRENCY", "0", "at least 1 and at most 64"),
        ("WRITE_ACK", "disk", "none, replica, fsync"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "auto, json, console"),
        ("ACCESS_LOG", "yes", "1, 0, true, false"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "a URL such as http://"),
        ("SLOW_REQUEST_MS", "-1", "at least 0 and at most 3600000"),
    ],
)
def test_a_bad_value_is_told(name: str, value: str, allowed: str) -> None:
    """The problem names the variable, its value and the allowed values."""
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"{name}='{value}' is not allowed: ")
    assert allowed in problem


def test_all_problems_are_told_at_once() -> None:
    """All problems are reported at once, one line each."""
    found = problems(PORT="x", LOG_LEVEL="x", SESSION_DRAIN_SECONDS="x")
    assert [line.partition("=")[0] for line in found] == [
        "PORT",
        "SESSION_DRAIN_SECONDS",
        "LOG_LEVEL",
    ]


def test_problems_of_webhooks_are_told_without_their_secrets() -> None:
    """Problems of webhooks have their place and the allowed values, and no secret."""
    found = problems(PORT="x", SESSION_WEBHOOKS='[{"url": "ftp://10.0.0.1", "secret": "hush"}]')
    assert [line.partition(" ")[0] for line in found] == [
        "PORT='x'",
        "SESSION_WEBHOOKS[0].url",
        "SESSION_WEBHOOKS[0].secret",
    ]
    assert "hush" not in "".join(found)


@pytest.mark.parametrize(
    "value", ["hush", "h" * 31, f"{'h' * 32},hush", f"{'h' * 32},", ",".join(["h" * 32] * 3)]
)
def test_a_bad_secret_of_session_tokens_is_not_told(value: str) -> None:
    """A secret that is too short, or a third one, is refused without being shown."""
    (problem,) = problems(SESSION_TOKEN_SECRET=value)
    assert problem.startswith("SESSION_TOKEN_SECRET is not allowed: ")
    assert "at least 32 bytes" in problem
    assert "hhh" not in problem
    assert "hush" not in problem


def test_secrets_of_session_tokens_come_from_a_file_or_the_variable(tmp_path: Path) -> None:
    """One secret or two are read, in order; they alone do not turn access control on."""
    first, second = "é" * 16, "b" * 32
    file = tmp_path / "secret"
    file.write_text(f"{first}, {second}\n")
    access = Settings.from_environment({"SESSION_TOKEN_SECRET_FILE": str(file)}).access
    assert [secret.value for secret in access.session_token_secrets] == [first, second]
    assert first not in repr(access)
    assert not access.is_on
    access = Settings.from_environment({"SESSION_TOKEN_SECRET": second}).access
    assert [secret.value for secret in access.session_token_secrets] == [second]


def test_a_password_is_not_told() -> None:
    """Of a refused URL only the scheme and the hosts are shown."""
    (problem,) = problems(REDIS_URL="redis+cluster://user:secret@a,b/1")
    assert problem.startswith("REDIS_URL='redis+cluster://a,b' is not allowed: it must be ")
    assert "a cluster has one database" in problem


def test_an_empty_variable_counts_as_unset() -> None:
    """An empty variable, as in compose files, counts as unset."""
    assert Settings.from_environment({"PORT": " ", "REDIS_URL": ""}).port == 3000


@pytest.mark.parametrize(
    ("environment", "default", "duration"),
    [
        ({"SESSION_MIN_TIMEOUT_MINUTES": "60"}, 60, 720),
        ({"SESSION_MAX_TIMEOUT_MINUTES": "10"}, 10, 20),
        ({"SESSION_DEFAULT_TIMEOUT_MINUTES": "1000"}, 1000, 1000),
        ({"SESSION_MIN_TIMEOUT_MINUTES": "2000"}, 2000, 2000),
    ],
)
def test_defaults_move_into_the_range_that_is_set(
    environment: dict[str, str], default: float, duration: float
) -> None:
    """A default moves into a range that another variable sets."""
    rules = Settings.from_environment(environment).timeouts
    assert (rules.default_timeout, rules.default_max_duration) == (default, duration)


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        (
            "https://a.example, http://localhost:5173",
            ("https://a.example", "http://localhost:5173"),
        ),
        ("capacitor://localhost", ("capacitor://localhost",)),
    ],
)
def test_origins_are_a_list(value: str, origins: tuple[str, ...]) -> None:
    """Origins are separated by commas; by default there are none."""
    assert Settings.from_environment({"SESSION_CORS_ORIGINS": value}).origins == origins


def test_hosts_are_a_list() -> None:
    """Hosts are separated by commas, and may contain a wildcard for subdomains."""
    hosts = Settings.from_environment({"ALLOWED_HOSTS": "a.example, *.b.example"}).hosts
    assert hosts == ("a.example", "*.b.example")


@pytest.mark.parametrize(
    ("value", "agents"),
    [("", set()), ("*", set()), (ID, {ID}), (f"{ID.upper()} , {OTHER_ID}", {ID, OTHER_ID})],
)
def test_agents_are_a_list(value: str, agents: set[str]) -> None:
    """Agents are separated by commas, in either case; by default there is no list."""
    assert Settings.from_environment({"SESSION_AGENTS": value}).agents == agents


def test_a_store_in_memory_is_one_process_alone() -> None:
    """A store in memory allows one process and no write acknowledgement."""
    environment = {"REDIS_URL": "memory://", "WEB_CONCURRENCY": "2", "WRITE_ACK": "replica"}
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environment)
    assert refused.value.problems == [
        "WEB_CONCURRENCY='2' is not allowed: it must be 1 with REDIS_URL=memory://",
        "WRITE_ACK='replica' is not allowed: it must be none with REDIS_URL=memory://",
    ]


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("localhost", ("localhost",)),
        ("[::1]", ("::1",)),
        ("127.0.0.1, ::1", ("127.0.0.1", "::1")),
        ("fe80::1%eth0", ("fe80::1%eth0",)),
        ("sessions.example.", ("sessions.example.",)),
    ],
)
def test_hosts_are_names_and_addresses(value: str, hosts: tuple[str, ...]) -> None:
    """Addresses are separated by commas, and an IPv6 address may be in brackets."""
    assert Settings.from_environment({"HOST": value}).listen_on == hosts


@pytest.mark.parametrize(
    ("value", "size"),
    [("", None), ("0", 0), ("1000", 1000), ("512mb", 512 * 1024**2), ("2GB", 2 * 1024**3)],
)
def test_a_size_is_in_bytes(value: str, size: int | None) -> None:
    """A size is in bytes, or has a unit of 1024 as in Redis."""
    assert Settings.from_environment({"SESSION_DATA_MAX_MEMORY": value}).max_memory == size


HUSH = "hunter2" * 5
VALUES = {  # a valid value of each secret setting
    "REDIS_URL": f"redis://user:{HUSH}@host:6379/0",
    "SESSION_WEBHOOKS": json.dumps(
        [{"url": f"https://example.org/{HUSH}", "secret": f"whsec_{'QUJD' * 8}"}]
    ),
    "ELIZA_SERVER_AUTH_TOKEN": HUSH,
    "JWT_SECRET": HUSH,
    "JWT_PUBLIC_KEY": "",
    "SESSION_TOKEN_SECRET": HUSH,
}
WITH_JWT = {"JWT_ISSUER": "issuer", "JWT_AUDIENCE": "audience"}
HIDDEN = (HUSH, "QUJD")


def public_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(params=SECRETS)
def secret(request: pytest.FixtureRequest) -> tuple[str, dict[str, str]]:
    """The name of a secret setting, and an environment in which it is valid."""
    name: str = request.param
    value = VALUES[name] or public_key().strip()
    return name, {name: value, **(WITH_JWT if name.startswith("JWT") else {})}


def test_a_secret_comes_from_a_file(secret: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """``*_FILE`` names a file of the secret, whose last newline is stripped."""
    name, environment = secret
    file = tmp_path / "secret"
    file.write_text(environment[name] + "\n")
    others = {each: value for each, value in environment.items() if each != name}
    from_file = Settings.from_environment({f"{name}_FILE": str(file), **others})
    assert from_file == Settings.from_environment(environment)


def test_a_secret_is_not_in_the_repr(secret: tuple[str, dict[str, str]]) -> None:
    """No secret is in the repr of the settings, of a store's URL or of an endpoint."""
    name, environment = secret
    settings = Settings.from_environment(environment)
    shown = repr(settings)
    if name == "REDIS_URL":
        shown += repr(read_url(environment[name])) + f"{read_url(environment[name])}"
    if name == "SESSION_WEBHOOKS":
        shown += repr(settings.webhooks) + f"{settings.webhooks.endpoints[0]}"
    assert not [hidden for hidden in HIDDEN if hidden in shown]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "value",
    [
        f"{HUSH}://{HUSH}@{HUSH}:{HUSH}/{HUSH}?{HUSH}#{HUSH}",
        f"redis://user:{HUSH}@host:x",
        f'[{{"url": "{HUSH}", "secret": "{HUSH}", "{HUSH}": 1}}, {HUSH}]',
        f'[{{"url": "https://{HUSH}", "secret": "whsec_{HUSH}"}}]',
        f"-----BEGIN PUBLIC KEY-----\n{HUSH}\n-----END PUBLIC KEY-----",
        f"{HUSH},{HUSH},{HUSH}",
        "QUJD",
        f"/{HUSH}",
        f"/a/{HUSH}==",
    ],
)
def test_a_bad_secret_is_not_told(name: str, value: str) -> None:
    """No problem repeats the value of a secret setting, not even where a path should be."""
    for variable in (name, f"{name}_FILE"):
        with pytest.raises(SettingsError) as caught:
            Settings.from_environment({variable: value, "AUTH": "off", "PORT": "x"})
        shown = f"{caught.value}{caught.value!r}"
        assert not [hidden for hidden in HIDDEN if hidden in shown]


def test_a_secret_setting_has_to_be_declared() -> None:
    """A secret setting that the tests of secrets do not know cannot be read."""
    with pytest.raises(ValueError, match="one of SECRETS"):
        Reader({}).secret("ANOTHER")


def test_every_secret_setting_is_documented() -> None:
    """docs/settings.md names the file of each secret setting."""
    docs = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    assert [name for name in SECRETS if f"`{name}_FILE`" not in docs] == []


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_file_that_is_of_no_use_is_told(name: str, tmp_path: Path) -> None:
    """The problem names the variable and the path, and never the content."""
    file, folder = tmp_path / "secret", tmp_path
    binary, empty = tmp_path / "binary", tmp_path / "empty"
    file.write_text("http://user:hunter2@host")
    binary.write_bytes(b"\xff\xfehunter2")
    empty.write_text("\n")
    for path, reason in (
        (tmp_path / "none", "the file cannot be read: No such file or directory"),
        (folder, "the file cannot be read: Is a directory"),
        (binary, "the file cannot be read: it is not text"),
        (empty, "the file is empty"),
    ):
        found = problems(**{f"{name}_FILE": str(path)})
        assert f"{name}_FILE='{path}' is not allowed: {reason}" in found
    found = problems(**{name: VALUES[name] or "x", f"{name}_FILE": str(file)})
    assert f"{name}_FILE='{file}' is not allowed: {name} must not be set as well" in found
    assert "hunter2" not in "".join(problems(**{f"{name}_FILE": str(file), "PORT": "x"}))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SESSION_DATADIR", "SESSION_DATA_DIR"),
        ("SESSION_MAX_TIMEOUT", "SESSION_MAX_TIMEOUT_MINUTES"),
        ("SESSION_WEBHOOK_FILE", "SESSION_WEBHOOKS_FILE"),
        ("WEB_CONCURENCY", "WEB_CONCURRENCY"),
        ("REDIS_URI", "REDIS_URL"),
        ("LOG_LEVEL_", "LOG_LEVEL"),
    ],
)
def test_a_misspelt_variable_is_told(name: str, hint: str) -> None:
    """A misspelt variable is reported with the closest name, without its value."""
    assert Settings.from_environment({name: "hunter2"}).warnings == (
        f"{name} is set, and there is no such setting; did you mean {hint}?",
    )


def test_a_variable_that_is_like_none_is_told_without_a_guess() -> None:
    """An unknown variable that starts with SESSION_ is reported without a suggestion."""
    assert Settings.from_environment({"SESSION_XYZZYPLUGHQQ": "1"}).warnings == (
        "SESSION_XYZZYPLUGHQQ is set, and there is no such setting",
    )


@pytest.mark.parametrize(
    "name",
    [
        "SESSION_MANAGER",  # of a desktop
        "SESSION_SERVICE_SERVICE_HOST",  # Kubernetes, for a service named session-service
        "SESSION_SERVICE_SERVICE_PORT_HTTP",
        "SESSION_PORT",  # and for one named session
        "SESSION_PORT_3000_TCP_ADDR",
        "HOSTNAME",
        "PATH",
    ],
)
def test_variables_of_others_are_left_alone(name: str) -> None:
    """Variables of desktops and Kubernetes are not reported."""
    assert Settings.from_environment({name: "1"}).warnings == ()


def test_a_misspelling_beside_the_right_name_is_no_setting() -> None:
    """A REDIS_URI is not reported if REDIS_URL is set."""
    environment = {"REDIS_URI": "1", "REDIS_URL": "redis://host"}
    assert Settings.from_environment(environment).warnings == ()


def test_every_documented_setting_is_known() -> None:
    """No documented setting is reported as unknown."""
    docs = Path(__file__).parents[2] / "docs"
    rows = re.findall(
        r"^\| `([A-Z_]+)` \|",
        (docs / "settings.md").read_text() + (docs / "webhooks.md").read_text(),
        re.MULTILINE,
    )
    assert {"SESSION_WEBHOOKS_PAUSED", "PORT"} < set(rows)
    assert Settings.from_environment(dict.fromkeys(rows, "")).warnings == ()


@pytest.mark.parametrize("value", ["10.1.2.3/8", "10.0.0.0/33", "internal", "10.0.0.0-10.0.0.9"])
def test_networks_are_cidrs(value: str) -> None:
    """Networks are separated by commas, and their host bits must be 0."""
    (problem,) = problems(SESSION_WEBHOOKS_ALLOW_NETWORKS=value)
    assert "networks such as 10.0.0.0/8, fd00::/8" in problem


def test_the_switch_for_all_addresses_still_works() -> None:
    """The old switch allows all networks; one address is a network."""
    networks = {"SESSION_WEBHOOKS_ALLOW_NETWORKS": "10.0.0.0/8, 192.168.1.7,"}
    policy = Settings.from_environment(networks).webhooks
    assert [policy.allows(each) for each in ("10.9.9.9", "192.168.1.7", "::1")] == [
        True,
        True,
        False,
    ]
    settings = Settings.from_environment({**networks, "SESSION_WEBHOOKS_ALLOW_PRIVATE": "true"})
    assert settings.webhooks.allows("::1")
    assert settings.warnings == ()


def test_limits_on_requests_are_numbers_in_seconds() -> None:
    """By default nothing is limited; a limit is written as requests and seconds."""
    assert Settings.from_environment({}).rates == RateSettings()
    rates = Settings.from_environment(
        {"RATE_LIMIT_USER": "120/60s", "TRUSTED_PROXIES": "10.0.0.0/8"}
    ).rates
    assert (rates.user, rates.key) == (RateLimit(120, 60), None)
    assert [str(network) for network in rates.proxies] == ["10.0.0.0/8"]


@pytest.mark.parametrize("name", ["RATE_LIMIT_USER", "RATE_LIMIT_KEY", "RATE_LIMIT_ADDRESS"])
def test_other_texts_are_no_limits_on_requests(name: str) -> None:
    """A limit in another form stops the start, with an example and the bounds."""
    (problem,) = problems(**{name: "100/minute"})
    assert "<requests>/<seconds>s such as 100/60s" in problem


def test_limits_of_credentials_need_access_control() -> None:
    """The limit of users or keys has no effect while nobody has a credential."""
    rates = Settings.from_environment({"RATE_LIMIT_USER": "1/1s", "RATE_LIMIT_KEY": "1/1s"}).rates
    assert [warning.split()[0] for warning in rates.unused(has_access=False)] == [
        "RATE_LIMIT_USER",
        "RATE_LIMIT_KEY",
    ]
    assert rates.unused(has_access=True) == ()


def test_the_oldest_session_can_make_room() -> None:
    """One session too many is refused, or ends the oldest."""
    name = "SESSION_MAX_PER_USER_POLICY"
    assert not Settings.from_environment({name: "refuse"}).limits.ends_oldest
    assert Settings.from_environment({name: "end-oldest"}).limits.ends_oldest
    (problem,) = problems(**{name: "oldest"})
    assert "refuse, end-oldest" in problem


def times() -> list[str]:
    """Return the settings that are times, from docs/settings.md and docs/webhooks.md."""
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "settings.md").read_text() + (docs / "webhooks.md").read_text()
    return sorted(set(re.findall(r"`(SESSION_\w+_(?:MINUTES|SECONDS|HOURS))`", text)))


@pytest.mark.parametrize("name", times())
def test_every_time_has_an_upper_bound(name: str) -> None:
    """A time above its bound stops the start, and the message has the bound."""
    for value in ("1e18", "999999999999"):
        (problem,) = problems(**{name: value})
        assert re.search(r" and at most \d+$", problem)


def test_a_store_in_memory_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fakeredis, one line names the extra to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert problems(REDIS_URL="memory://") == [
        "REDIS_URL='memory://' is not allowed: it must be another store; memory:// needs"
        " pip install 'session-service[memory]'"
    ]


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, False),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
        ({"OTEL_SERVICE_NAME": "chat", "OTEL_METRICS_EXPORTER": "otlp"}, False),
        ({}, False),
    ],
)
def test_traces_are_on_if_they_are_asked_for(environment: dict[str, str], is_on: bool) -> None:
    """An endpoint or an exporter of traces turns them on; no other variable is misspelt."""
    settings = Settings.from_environment(environment)
    assert (settings.tracing.is_on, settings.warnings) == (is_on, ())


def test_traces_over_grpc_are_told() -> None:
    """Only OTLP over HTTP is supported."""
    found = problems(OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert found == ["OTEL_EXPORTER_OTLP_PROTOCOL='grpc' is not allowed: it must be http/protobuf"]


def test_traces_without_the_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenTelemetry the start stops with a line that says how to install it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    (problem,) = problems(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318")
    assert problem.endswith("it must be unset: traces need pip install 'session-service[otel]'")
    assert not Settings.from_environment({"OTEL_SERVICE_NAME": "chat"}).tracing.is_on
