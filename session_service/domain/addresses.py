"""The addresses that webhook endpoints may have: public ones, and networks from the settings.

The list is our own, because Python's ``is_global`` differs between versions. It follows the IANA
special-purpose registries (https://www.iana.org/assignments/iana-ipv4-special-registry and
…/iana-ipv6-special-registry), and adds the addresses of cloud providers' own services.
"""

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

EVERYWHERE: tuple[Network, ...] = (
    ipaddress.IPv4Network("0.0.0.0/0"),
    ipaddress.IPv6Network("::/0"),
)
_LOOPBACK: tuple[Network, ...] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)

_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform services
        "169.254.0.0/16",  # link-local; metadata at 169.254.169.254
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; a cloud's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# All other addresses are reserved, private, or local to this machine or link. Tunnels that carry
# IPv4 are refused: no endpoint is behind one.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocols, among them Teredo, benchmarks and ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3ffe::/16",  # the 6bone of old
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # the last 32 bits are an IPv4 address


def is_public(address: str) -> bool:
    """Return whether an IP address, e.g. ``8.8.8.8`` or ``2001:4860:4860::8888``, is public."""
    return is_allowed(address, ())


def is_allowed(address: str, networks: Iterable[Network]) -> bool:
    """Return whether an IP address is public, or in one of the networks."""
    try:
        ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    return _is_in(ip, networks) or _is_public(ip)


def is_allowed_host(host: str, networks: Iterable[Network]) -> bool:
    """Return whether the host of a URL is allowed, as far as that is known without DNS.

    Every name is allowed except ``localhost``: the address is checked for each connection.
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        is_local = host.rstrip(".").rpartition(".")[2] == "localhost"
        return not is_local or any(_overlap(a, b) for a in networks for b in _LOOPBACK)
    return is_allowed(host, networks)


def read_networks(text: str) -> tuple[Network, ...]:
    """Read networks separated by commas, e.g. ``10.0.0.0/8, fd00::/8``; raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _plain(ip: _Address) -> _Address:
    """Return the IPv4 address in an IPv6 address such as ``::ffff:10.0.0.1``, or the address."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _is_public(ip: _Address) -> bool:
    if isinstance(ip, ipaddress.IPv4Address):
        return not _is_in(ip, _NOT_PUBLIC_V4)
    return ip in _GLOBAL_V6 and not _is_in(ip, _NOT_PUBLIC_V6)


def _is_in(ip: _Address, networks: Iterable[Network]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)


def _overlap(one: Network, other: Network) -> bool:
    if isinstance(one, ipaddress.IPv4Network):
        return isinstance(other, ipaddress.IPv4Network) and one.overlaps(other)
    return isinstance(other, ipaddress.IPv6Network) and one.overlaps(other)
