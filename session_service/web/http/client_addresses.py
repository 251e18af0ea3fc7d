"""The addresses of clients, also of those behind trusted proxies.

A proxy appends the address that it got a request from to ``X-Forwarded-For``. Everything to the
left of that may be forged, so the field is read from the right, through TRUSTED_PROXIES::

    X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.2

From a connection of 10.0.0.1, with ``10.0.0.0/8`` trusted, that is a request of 198.51.100.7.
"""

import ipaddress
from functools import lru_cache

from aiohttp import web
from multidict import istr

from session_service.domain.addresses import Network

FORWARDED_FOR = istr("X-Forwarded-For")

_FORWARDING = (
    FORWARDED_FOR,
    *map(istr, ("Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")),
)
_MAX_PROXIES = 32  # read at most: a field may have 32 KiB
_REMEMBERED = 4096  # addresses, with the result of parsing them

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """The networks of proxies whose X-Forwarded-For is believed."""

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self._networks = networks
        self._is_trusted = lru_cache(_REMEMBERED)(self._is_in_networks)

    def client_address(self, request: web.BaseRequest) -> str:
        """Return the address of the client that sent a request, e.g. ``198.51.100.7``.

        That is the last one which is no trusted proxy's. If all are, it is the first; an entry that
        is no address ends the search, because no proxy wrote it.
        """
        address = request.remote or ""
        if not self._is_trusted(address):
            return address
        entries = ",".join(request.headers.getall(FORWARDED_FOR, ())).rsplit(",", _MAX_PROXIES)
        for entry in reversed(entries[-_MAX_PROXIES:]):
            ip = _parse(entry)
            if ip is None:
                break
            address = str(ip)
            if not self._is_trusted(address):
                break
        return address

    def _is_in_networks(self, address: str) -> bool:
        ip = _parse(address)
        return ip is not None and any(
            ip.version == network.version and ip in network for network in self._networks
        )


def is_on_this_machine(request: web.BaseRequest) -> bool:
    """Return whether a client on this machine sent a request itself, not a proxy for another one.

    Nor may it be a page, whose own name may have been pointed at this machine: Host must be
    ``localhost`` or an address.
    """
    headers = request.headers
    ip = _parse(request.remote or "")
    host = headers.get("Host", "localhost").lower()
    return (
        ip is not None
        and ip.is_loopback
        and not any(name in headers for name in _FORWARDING)
        and (host.partition(":")[0] == "localhost" or _parse(host) is not None)
    )


def group_of(address: str) -> str:
    """Return the group of addresses that one limit applies to.

    An IPv6 address stands for its /64, which one client has as a whole, e.g. ``2001:db8:1:2::/64``.
    """
    return _group(address)


@lru_cache(_REMEMBERED)
def _group(address: str) -> str:
    ip = _parse(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((ip, 64), strict=False))
    return address if ip is None else str(ip)


def _parse(text: str) -> _Address | None:
    """Return the address in a text, which some proxies write with a port; None if it has none.

    E.g. in ``203.0.113.9``, ``203.0.113.9:4711``, ``2001:db8::1``, ``[2001:db8::1]:4711`` and
    ``::ffff:203.0.113.9``, which is an IPv4 address.
    """
    text = text.strip().partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
