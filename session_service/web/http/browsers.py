"""Requests from browsers: one policy for REST, event streams and Socket.IO.

A browser sends requests on behalf of any page, from the network of its user. So headers that a
page cannot forge decide which pages may change something (``Origin`` and ``Sec-Fetch-Site``), which
may read responses (CORS), and for which hosts the service responds (``Host``: a page can point a
name of its own at the service's address, "DNS rebinding"). Requests from servers and from curl have
neither Origin nor Sec-Fetch-Site, and pass.
"""

import ipaddress
import logging
import re
from collections.abc import Mapping
from functools import lru_cache

from multidict import istr

from session_service.domain.budgets import (
    HEADER_VALUES_REMEMBERED,
    LOGGED_REFUSALS,
    PREFLIGHT_SECONDS,
)
from session_service.web.http.errors import Forbidden

ORIGIN = istr("Origin")
SEC_FETCH_SITE = istr("Sec-Fetch-Site")
_HOST = istr("Host")
_REQUESTED_HEADERS = istr("Access-Control-Request-Headers")

_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
_OWN_SITES = frozenset(("same-origin", "none"))  # none: the user typed it, or a bookmark
_EXPOSED = "Location, Retry-After, X-Request-ID"
_KNOWN_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-ID"

_is_header_list = re.compile(r"[A-Za-z0-9_-]+(?: *, *[A-Za-z0-9_-]+){0,63}").fullmatch

log = logging.getLogger(__name__)


class BrowserPolicy:
    """The origins whose pages may use the service, and the hosts that it responds for.

    ``origins`` are those of SESSION_CORS_ORIGINS, e.g. ``https://app.example.org``; ``*`` allows
    every origin. ``hosts`` are those of ALLOWED_HOSTS, e.g. ``sessions.example.org`` or
    ``*.example.org``; ``*`` allows every host, and so does ``any_host``, which is for a service
    whose callers need a credential: after DNS rebinding a page has none. ``exposed`` are more
    header fields that pages may read, e.g. ``RateLimit``.
    """

    def __init__(
        self,
        origins: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
        *,
        any_host: bool = False,
        exposed: tuple[str, ...] = (),
    ) -> None:
        self._exposed = ", ".join((_EXPOSED, *exposed))
        self._lists_all = "*" in origins
        self._origins = frozenset(map(_normal, origins))
        self._any_host = any_host or "*" in hosts
        self._hosts = frozenset(host.lower() for host in hosts)
        self._logged: set[str] = set()
        # Most requests have one of a few hosts and origins.
        self._is_allowed = lru_cache(HEADER_VALUES_REMEMBERED)(self._is_host_allowed)
        self.fields = lru_cache(HEADER_VALUES_REMEMBERED)(self._fields)

    def admit(self, method: str, headers: Mapping[str, str]) -> None:
        """Raise Forbidden if the host is not allowed, or a page may not send the request."""
        host = headers.get(_HOST)
        if host is not None and not self._is_allowed(host):
            self._log("host refused: list it in ALLOWED_HOSTS", host)
            raise Forbidden(
                "The service does not answer for this host",
                f"The Host header is {_shown(host)}. Allowed: localhost, an IP address, a name"
                " without a dot, and the hosts in the setting ALLOWED_HOSTS.",
                "host",
            )
        if method not in _SAFE_METHODS and (ORIGIN in headers or SEC_FETCH_SITE in headers):
            self.check_page(headers)

    def check_page(self, headers: Mapping[str, str]) -> None:
        """Raise Forbidden if the request comes from a page that may not change anything here."""
        origin, site = headers.get(ORIGIN), headers.get(SEC_FETCH_SITE)
        if origin is None and site is None:
            return
        if origin is not None and self._is_listed(origin):
            return
        is_own = site in _OWN_SITES if site is not None else _names(origin, headers.get(_HOST))
        if is_own or self._lists_all:
            return
        self._log(
            "origin refused: list it in SESSION_CORS_ORIGINS, or forward Host",
            "not named" if origin is None else origin,
        )
        named = "not named" if origin is None else _shown(origin)
        raise Forbidden(
            "Pages of this origin may not change anything here",
            f"The origin is {named}. List it in the setting SESSION_CORS_ORIGINS; if it is the"
            " service's own, let the proxy in front forward the Host header as it came.",
            "origin",
        )

    def preflight(self, headers: Mapping[str, str], methods: str) -> tuple[tuple[str, str], ...]:
        """Return the header fields of the response to a preflight, besides those of ``fields``.

        ``methods`` are those of the path, e.g. ``GET, HEAD, OPTIONS``. An origin that is not listed
        gets none.
        """
        origin = headers.get(ORIGIN)
        if origin is None or not self._is_listed(origin):
            return ()
        # Libraries add headers of their own, e.g. for tracing, which do no harm here.
        requested = headers.get(_REQUESTED_HEADERS, "")
        more = f", {requested}" if _is_header_list(requested) else ""
        return (
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", _KNOWN_HEADERS + more),
            ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
        )

    def _fields(self, origin: str | None) -> str:
        """Return the header lines of every response to a request with this Origin header.

        An example for a listed origin::

            Vary: Origin
            Access-Control-Allow-Origin: https://app.example.org
            Access-Control-Allow-Credentials: true
            Access-Control-Expose-Headers: Location, Retry-After, X-Request-ID
        """
        if not self._origins:
            return ""
        if origin is None or not self._is_listed(origin):
            return "Vary: Origin\r\n"
        # Load balancers pin a client to a node by a cookie, so listed pages may send cookies.
        allowed = "*" if self._lists_all else f"{origin}\r\nAccess-Control-Allow-Credentials: true"
        return (
            f"Vary: Origin\r\nAccess-Control-Allow-Origin: {allowed}\r\n"
            f"Access-Control-Expose-Headers: {self._exposed}\r\n"
        )

    def _is_listed(self, origin: str) -> bool:
        return self._lists_all or _normal(origin) in self._origins

    def _is_host_allowed(self, host: str) -> bool:
        name = _without_port(host).removesuffix(".").lower()
        wildcard = f"*.{name.partition('.')[2]}"
        is_listed = self._any_host or name in self._hosts or wildcard in self._hosts
        return is_listed or "." not in name or _is_address(name.strip("[]"))

    def _log(self, problem: str, value: str) -> None:
        """Log a refusal, once for each value, and for LOGGED_REFUSALS values at most."""
        if value not in self._logged and len(self._logged) < LOGGED_REFUSALS:
            self._logged.add(value)
            log.warning(problem, extra={"value": _shown(value)})


def _normal(origin: str) -> str:
    """Return an origin in lower case, without the port that its scheme implies."""
    origin = origin.lower()
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


def _names(origin: str | None, host: str | None) -> bool:
    """Return whether an origin has the host and port of a Host header, with any scheme.

    ``https://app.example.org`` has those of ``app.example.org``. The scheme is not known here,
    because a TLS proxy may stand in front of the service.
    """
    if origin is None or host is None:
        return False
    scheme, separator, _ = origin.partition("://")
    return bool(separator) and _normal(f"{scheme}://{host}") == _normal(origin)


def _without_port(host: str) -> str:
    return re.sub(r":\d{0,5}\Z", "", host, flags=re.ASCII)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(value: str) -> str:
    """Return a header's value in ASCII, and short enough for a response and the log."""
    return ascii(value[:80])
