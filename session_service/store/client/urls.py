"""Reads the URL of a store. Does not import redis-py, which the health check does not need.

``redis://host:port/db``, ``rediss://`` (TLS), ``unix:///path``
    one server
``redis+sentinel://host,host/service/db``, ``rediss+sentinel://``
    the master of a Sentinel group; ``sentinel_username`` and ``sentinel_password`` in the query
``redis+cluster://host,host``, ``rediss+cluster://``
    a Redis Cluster
``memory://``
    fakeredis, for tests

Each host may have a port. User name and password come before the hosts, options in the query, e.g.
``rediss://app:p%40ss@store.example:6380/0?ssl_ca_certs=/etc/ca.pem``.

If a URL is mistyped, any part of it may be part of a password. So messages repeat only the scheme,
hosts that can be nothing else, and names of options.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

from session_service.store.client.url_options import StoreUrlError, check_tls, read_options

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "memory",
)
_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
_FORMS = {
    "": "{}://host:port/db",
    "sentinel": "{}://host,host/service/db",
    "cluster": "{}://host,host without a path: a cluster has one database",
}

# The login is greedy: a password may contain @, but none of / ? #
_URL = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?",
    re.DOTALL,
)
_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\])(?::(\d{1,5}))?")
_SERVICE = re.compile(r"[\w.-]+")  # the names that Sentinel allows


class StoreUrl(NamedTuple):
    """The parts of a URL."""

    scheme: str
    kind: str  # "" for one server, sentinel, cluster or memory
    hosts: list[tuple[str, int]]  # the server, the sentinels or some nodes of a cluster
    path: str  # of a unix socket
    service: str  # of a Sentinel group
    sentinel: dict[str, Any]  # options of redis-py for connections to sentinels
    options: dict[str, Any]  # options of redis-py for connections to servers

    def __repr__(self) -> str:
        return f"StoreUrl({self.address!r})"

    @property
    def address(self) -> str:
        """The URL without credentials and options, e.g. ``redis+sentinel://a:26379/main/0``."""
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        db = f"{'?db=' if self.path else '/'}{self.options['db']}" if "db" in self.options else ""
        service = f"/{self.service}" if self.service else ""
        return f"{self.scheme}://{hosts}{self.path}{service}{db}"


def read_url(url: str) -> StoreUrl:
    """Read a URL; raises StoreUrlError, also if a file that an option names does not exist."""
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    if not found or scheme not in SCHEMES:
        raise StoreUrlError(f"a URL of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if scheme == "memory":
        if rest:
            raise StoreUrlError("memory:// with nothing behind it")
        return StoreUrl(scheme, "memory", [], "", "", {}, {})
    try:
        return _read(f"{scheme}://{rest}")
    except StoreUrlError:
        if _ends_early(url):  # the option may be part of the password
            raise StoreUrlError(
                "a URL whose user name and password have %2F %3A %40 %3F %23 in place of / : @ ? #"
            ) from None
        raise


def _ends_early(url: str) -> bool:
    """Return whether the login seems to contain the / ? or # that ends it."""
    authority, *rest = re.split("[/?#]", url.partition("://")[2], maxsplit=1)
    return "#" in url or ("@" in "".join(rest) and "@" not in authority)


def masked(url: str) -> str:
    """Return the part of an unreadable URL that can be shown, e.g. ``redis://host:6379``."""
    scheme, found, rest = url.partition("://")
    if not found or not re.fullmatch(r"[a-z][a-z+]{0,20}", scheme):
        return "***"
    match = _URL.fullmatch(url)
    hosts = match["hosts"] if match and rest.count("@") <= 1 else ""
    if not _ends_early(url) and all(map(_is_host, hosts.split(","))):
        return f"{scheme}://{hosts}"
    return f"{scheme}://" + "***" * bool(rest)


def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    return match is not None and (match[2] is None or 1 <= int(match[2]) <= 65535)


def _read(url: str) -> StoreUrl:
    match = _URL.fullmatch(url)
    if match is None:
        raise StoreUrlError("a URL with hosts, ports and options that can be read")
    scheme, path, query = match["scheme"], match["path"] or "", match["query"] or ""
    base, _, kind = scheme.partition("+")
    hosts = _hosts(scheme, kind, match["hosts"])
    options = _login(match["login"] or "")
    service = ""
    if scheme == "unix":
        path = unquote(path)
        if not path.strip("/"):
            raise StoreUrlError("unix:// with a path")
    else:
        service, db = _path(scheme, kind, path)
        options |= db
        path = ""
    tls = base == "rediss"
    for name, value in read_options(query, scheme).items():
        if name in options:
            raise StoreUrlError(f"a URL with one {name}")
        options[name] = value
    sentinel = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in [name for name in options if name.startswith("sentinel_")]
    }
    if tls:
        options["ssl"] = True
        check_tls(options)
        if kind == "sentinel":
            sentinel |= {n: value for n, value in options.items() if n.startswith("ssl")}
    return StoreUrl(scheme, kind, hosts, path, service, sentinel, options)


def _hosts(scheme: str, kind: str, text: str) -> list[tuple[str, int]]:
    if scheme == "unix":
        if text:
            raise StoreUrlError("unix:///path, without a host")
        return []
    if not text and not kind:
        raise StoreUrlError(f"{scheme}:// with a host")
    hosts = text.split(",")
    if not all(map(_is_host, hosts)):
        raise StoreUrlError(
            "a URL whose hosts are parted by commas, each with or without a port (1 to 65535)"
        )
    if not kind and len(hosts) > 1:
        raise StoreUrlError(
            f"{scheme}:// with one host: several belong to {scheme}+sentinel:// or"
            f" {scheme}+cluster://"
        )
    found = [match for host in hosts if (match := _HOST.fullmatch(host))]
    return [(match[1].strip("[]"), int(match[2] or _PORTS[kind])) for match in found]


def _login(text: str) -> dict[str, Any]:
    username, _, password = text.partition(":")
    login = {"username": unquote(username), "password": unquote(password)}
    return {name: value for name, value in login.items() if value}


def _path(scheme: str, kind: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return the Sentinel group's name and the database."""
    form = StoreUrlError(_FORMS[kind].format(scheme))
    parts = path.strip("/").split("/") if path.strip("/") else []
    service = ""
    if kind == "sentinel":
        if not parts or not _SERVICE.fullmatch(parts[0]):
            raise form
        service = parts.pop(0)
    if len(parts) > (kind != "cluster") or not all(map(str.isdecimal, parts)):
        raise form
    return service, {"db": int(parts[0])} if parts else {}
