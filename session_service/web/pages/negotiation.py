"""Reads the header fields by which a client chooses among the forms of a page."""

import re

from multidict import CIMultiDictProxy, istr

ACCEPT = istr("Accept")
ACCEPT_ENCODING = istr("Accept-Encoding")
IF_NONE_MATCH = istr("If-None-Match")

Headers = CIMultiDictProxy[str]

_quality = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)", re.IGNORECASE).search


def prefers_html(headers: Headers) -> bool:
    """Return whether a client asks for HTML, as browsers do.

    It names ``text/html``, at least as high as ``application/json``; curl's ``*/*`` does not.
    """
    accepted = _qualities(headers, ACCEPT)
    html = accepted.get("text/html", 0)
    return html > 0 and html >= accepted.get("application/json", 0)


def takes_gzip(headers: Headers) -> bool:
    """Return whether a client can decompress gzip."""
    return _qualities(headers, ACCEPT_ENCODING).get("gzip", 0) > 0


def has_copy(headers: Headers, etag: str) -> bool:
    """Return whether a client has the version with this ETag, e.g. ``W/"5f0c3a9b"``, already.

    The comparison is weak, as for every If-None-Match (RFC 9110, 13.1.2).
    """
    tags = {
        tag.strip().removeprefix("W/")
        for field in headers.getall(IF_NONE_MATCH, ())
        for tag in field.split(",")
    }
    return "*" in tags or etag.removeprefix("W/") in tags


def _qualities(headers: Headers, name: str) -> dict[str, float]:
    """Return the values of a field in lower case, each with its weight, 1 if it has none.

    ``text/html, */*;q=0.8`` becomes ``{"text/html": 1.0, "*/*": 0.8}``.
    """
    found = {}
    for field in headers.getall(name, ()):
        for part in field.split(","):
            weight = _quality(part)
            found[part.partition(";")[0].strip().lower()] = float(weight[1]) if weight else 1.0
    return found
