"""What a store's URL says (docs/settings.md)."""

from typing import Any

import pytest

from session_service.store.connection import read_url


@pytest.mark.parametrize(
    ("url", "kind", "hosts", "service"),
    [
        ("redis://localhost", "", [], ""),
        ("unix:///run/store.sock", "", [], ""),
        ("redis+sentinel://a,b:7/main", "sentinel", [("a", 26379), ("b", 7)], "main"),
        ("redis+cluster://a,[::1]:7", "cluster", [("a", 6379), ("::1", 7)], ""),
        ("memory://", "memory", [], ""),
    ],
)
def test_the_scheme_names_the_kind_of_store(
    url: str, kind: str, hosts: list[tuple[str, int]], service: str
) -> None:
    """Each host may have a port, and has its kind's usual one otherwise."""
    store = read_url(url)
    assert (store.kind, store.hosts, store.service) == (kind, hosts, service)


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_credentials_and_options_are_for_the_servers(kind: str) -> None:
    """As in a URL of one server."""
    path = "/main/3" if kind == "sentinel" else ""
    options = read_url(f"redis+{kind}://me:p%40ss@a,b{path}?socket_timeout=3").options
    expected: dict[str, Any] = {"username": "me", "password": "p@ss", "socket_timeout": 3.0}
    assert options == expected | ({"db": 3} if path else {})


def test_sentinels_have_credentials_of_their_own() -> None:
    """They are another role, and share but the TLS options."""
    store = read_url(
        "rediss+sentinel://me:x@a/main?sentinel_username=s&sentinel_password=y&ssl_ca_certs=/ca"
    )
    assert store.sentinel == {"username": "s", "password": "y", "ssl": True, "ssl_ca_certs": "/ca"}
    assert store.options == {"username": "me", "password": "x", "ssl": True, "ssl_ca_certs": "/ca"}
