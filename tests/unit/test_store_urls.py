"""Parsing of the store's URL (docs/settings.md)."""

from typing import Any

import pytest

from session_service.store.client.url_options import StoreUrlError
from session_service.store.client.urls import masked, read_url
from tests.support.tls import Certificate


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "service"),
    [
        ("redis://localhost", "", [("localhost", 6379)], ""),
        ("REDISS://[::1]:7/2", "", [("::1", 7)], ""),
        ("unix:///run/store.sock", "", [], ""),
        ("redis+sentinel://a,b:7/main", "sentinel", [("a", 26379), ("b", 7)], "main"),
        ("redis+cluster://a,[::1]:7", "cluster", [("a", 6379), ("::1", 7)], ""),
        ("memory://", "memory", [], ""),
    ],
)
def test_the_scheme_names_the_kind_of_store(
    url: str, kind: str, hosts: list[tuple[str, int]], service: str
) -> None:
    """The scheme names the kind of store, and hosts have its usual port by default."""
    store = read_url(url)
    assert (store.kind, store.hosts, store.service) == (kind, hosts, service)


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_credentials_and_options_are_for_the_servers(kind: str) -> None:
    """Credentials and options apply to the servers, as in the URL of one server."""
    path = "/main/3" if kind == "sentinel" else ""
    options = read_url(f"redis+{kind}://me:p%40ss@a,b{path}?client_name=n").options
    expected: dict[str, Any] = {"username": "me", "password": "p@ss", "client_name": "n"}
    assert options == expected | ({"db": 3} if path else {})


def test_sentinels_have_credentials_of_their_own(certificate: Certificate) -> None:
    """Sentinels have their own credentials, and share only the TLS options."""
    ca = str(certificate.certificate)
    store = read_url(
        "rediss+sentinel://me:x@a/main?sentinel_username=s&sentinel_password=y"
        f"&ssl_ca_certs={ca}&ssl_check_hostname=no"
    )
    tls = {"ssl": True, "ssl_ca_certs": ca, "ssl_check_hostname": False}
    assert store.sentinel == {"username": "s", "password": "y", **tls}
    assert store.options == {"username": "me", "password": "x", **tls}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://me:hun@ter2@h/3", "redis://h:6379/3"),
        ("redis://h?password=hun@ter2", "redis://h:6379"),
        ("unix://me:hunter2@/run/s?db=2", "unix:///run/s?db=2"),
        ("rediss+sentinel://:hunter2@a,[::1]:7/main", "rediss+sentinel://a:26379,[::1]:7/main"),
    ],
)
def test_an_address_has_no_credentials(url: str, address: str) -> None:
    """The address for the start line and the log has no credentials."""
    assert address == read_url(url).address


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("redis://h?ssl=true", "the option ssl: rediss:// is for TLS"),
        ("redis+cluster://h?tls=true", "the option tls: rediss+cluster:// is for TLS"),
        ("redis://h?ssl_ca_certs=/x", "rediss:// is for TLS"),
        ("redis://h?timeout=5", "SESSION_STORE_TIMEOUT_SECONDS sets the timeout"),
        ("redis://h?socket_timeout=5", "SESSION_STORE_TIMEOUT_SECONDS"),
        ("redis://h?max_connections=5", "max_connections: redis:// allows client_name, db, "),
        ("redis://h?protocol=3", "without the option protocol"),
        ("redis://h?db=x", "option db is a whole number"),
        ("redis://h?db=1&db=2", "one db"),
        ("redis://h/1?db=2", "one db"),
        ("redis://h/x", "redis://host:port/db"),
        ("redis://h/1/2", "redis://host:port/db"),
        ("redis://h?client_name=a%20b", "client_name is a name without spaces"),
        ("redis://h?socket_keepalive=maybe", "socket_keepalive is true or false"),
        ("redis://h?password=", "password is a text that is not empty"),
        ("redis://h?d-b=1", "options such as ?name=value&name=value"),
        ("redis://h:0", "a port (1 to 65535)"),
        ("redis://h:65536", "a port (1 to 65535)"),
        ("redis://a,b", "redis:// with one host: several belong to redis+sentinel:// or"),
        ("redis+sentinel://h/ma in", "redis+sentinel://host,host/service/db"),
        ("redis+cluster://h?db=0", "without the option db"),
        ("rediss+cluster://h?ssl_password=x", "without the option ssl_password"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs is none, optional or required"),
        ("rediss://h?ssl_ca_certs=/nowhere", "ssl_ca_certs is the path of a file"),
        ("rediss://h?ssl_ca_certs=/", "ssl_ca_certs is the path of a file"),
        ("rediss://h?ssl_ca_path=/nowhere", "ssl_ca_path is the path of a directory"),
        (f"rediss://h?ssl_ca_certs={__file__}", "ssl_ca_certs is a file with certificates (PEM)"),
        (f"rediss://h?ssl_certfile={__file__}", "a certificate (PEM), its key"),
        (f"rediss://h?ssl_keyfile={__file__}", "ssl_keyfile comes with ssl_certfile"),
        ("rediss://h?ssl_min_version=3", "ssl_min_version is TLSv1.2 or TLSv1.3"),
        ("rediss://h?ssl_ciphers=none", "ssl_ciphers is a list of OpenSSL's"),
        ("unix://h/path", "unix:///path, without a host"),
        ("unix:///path?ssl_ca_certs=/x", "unix:// allows client_name, db, "),
        ("memory://x", "memory:// with nothing behind it"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(url: str, allowed: str) -> None:
    """An unknown option is named with the allowed ones, before any connection."""
    with pytest.raises(StoreUrlError) as refused:
        read_url(url)
    assert allowed in str(refused.value)


MISTYPED = [
    "redis://user:hunter2@host:x/0",
    "redis://user:hun/ter2@host/0",
    "redis://user:hun?ter2@host/0",
    "redis://user:hun#ter2@host/0",
    "redis://user:12/ter2@host/0",
    "redis://user:12?ter2=1@host/0",
    "redis://user:12#ter2@host/0",
    "redis://us@er:hun/ter2@host/0?x",
    "redis:/user:hunter2@host",
    "redis//user:hunter2@host",
    "user:hunter2@host:6379",
    "hunter2",
    "redis://user:hunter2",
    "redis://:hunter2",
    "redis://user:hun ter2@ho st",
    "redis://host?password=hunter2&ssl=true",
    "redis://host?password=hun@ter2&ssl=true",
    "redis://host?hunter2",
    "redis://host?hun-ter2=1",
    "redis+cluster://user:hunter2@a,b/1",
    "redis+sentinel://user:hunter2@a,b",
    "redis+sentinel://user:12/hunter2@a/main",
    "redis+sentinel://host/main?sentinel_password=hunter2&db=x",
    "rediss://host?ssl_password=hunter2&ssl_ca_certs=/nowhere",
    "http://user:hunter2@host",
    "unix://user:hunter2@host/path",
    "redis://user:hunter2@host/0#",
]


@pytest.mark.parametrize("url", MISTYPED)
def test_no_piece_of_a_password_is_shown(url: str) -> None:
    """A message shows at most the scheme, the hosts and the name of an option."""
    with pytest.raises(StoreUrlError) as refused:
        read_url(url)
    for piece in ("hun", "ter2", "12"):
        assert piece not in f"{masked(url)} {refused.value}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+cluster://user:x@a,b:7/1", "redis+cluster://a,b:7"),
        ("http://host", "http://host"),
        ("redis://", "redis://"),
        ("redis://user:1/x@host", "redis://***"),
        ("redis://a:b", "redis://***"),
    ],
)
def test_of_a_url_that_cannot_be_read_the_hosts_are_shown(url: str, shown: str) -> None:
    """The hosts of an invalid URL are shown if they cannot be a password."""
    assert shown == masked(url)
