"""The addresses of clients behind proxies, and the limit of addresses."""

from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from session_service.domain.addresses import read_networks
from session_service.domain.budgets import LIMITED_ADDRESSES
from session_service.domain.rates import SECOND, RateLimit
from session_service.web.http.address_limit import AddressLimit
from session_service.web.http.client_addresses import TrustedProxies

PROXIES = TrustedProxies(read_networks("10.0.0.0/8, fd00::/8"))


class Connection:
    """The transport of a connection from an address."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._address, 4711) if name == "peername" else default


def request(remote: str, *forwarded: str) -> web.Request:
    headers = CIMultiDict(("X-Forwarded-For", each) for each in forwarded)
    transport = cast("Any", Connection(remote))
    return make_mocked_request("GET", "/", headers=headers, transport=transport)


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # sent by a client itself
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["2001:DB8::1 "], "2001:db8::1"),
        ("10.0.0.1", [",".join(["203.0.113.9"] + ["10.0.0.2"] * 100)], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9,"], "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_trusted_proxy(
    remote: str, forwarded: list[str], client: str
) -> None:
    """X-Forwarded-For is read from the right, and only as far as trusted proxies wrote it."""
    assert PROXIES.client_address(request(remote, *forwarded)) == client


class Clock:
    """A clock that a test sets, in microseconds."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_an_address_has_a_burst_and_a_rate() -> None:
    """An address gets its burst, then as many as its rate; other addresses are not concerned."""
    clock = Clock()
    limit = AddressLimit(RateLimit(3, 30), clock)
    assert [limit.charge("192.0.2.1").is_granted for _ in range(4)] == [True, True, True, False]
    assert limit.charge("192.0.2.1").seconds == 10
    assert limit.charge("192.0.2.2").is_granted
    clock.now = 10 * SECOND
    assert [limit.charge("192.0.2.1").is_granted for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_the_addresses_of_a_client_are_one(one: str, other: str, *, are_one: bool) -> None:
    """All addresses of an IPv6 network of 64 bits share a bucket, and no IPv4 addresses do."""
    limit = AddressLimit(RateLimit(1, 60), Clock())
    limit.charge(one)
    assert limit.charge(other).is_granted is not are_one


def test_addresses_are_counted_in_bounded_memory() -> None:
    """With too many addresses, the one that was not used for the longest time is forgotten."""
    limit = AddressLimit(RateLimit(1, 60), Clock())
    limit.charge("first")
    limit.charge("second")
    limit.charge("first")
    for n in range(LIMITED_ADDRESSES - 1):
        limit.charge(f"other-{n}")
    assert limit.size == LIMITED_ADDRESSES
    assert not limit.charge("first").is_granted
    assert limit.charge("second").is_granted
