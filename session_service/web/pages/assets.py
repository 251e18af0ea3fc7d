"""Files of pages: HTML, scripts, styles and images, as they are in the package.

A browser keeps a copy and asks each time whether it is still the newest: an upgrade of the service
then shows at once, and the answer is a 304 without a body. In memory is only the compressed copy of
files that were asked for.
"""

import asyncio
import gzip
import hashlib
from importlib.resources import files
from typing import NamedTuple

from aiohttp import web

from session_service.web.http.context import RequestContext
from session_service.web.http.response import BytesResponse
from session_service.web.pages.lazy import Lazy
from session_service.web.pages.negotiation import has_copy, takes_gzip

Fields = tuple[tuple[str, str], ...]

_FILES = files("session_service.web.pages") / "files"
_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_GZIP = (("Content-Encoding", "gzip"),)

# A page has scripts and styles of the service only, and no other page can frame it. Swagger UI's
# styles contain images.
PAGE_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class PageResponse(BytesResponse):
    """A response of a type that its page chooses, with the headers that protect pages."""

    __slots__ = ("caching", "content_type")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str,
        headers: Fields = (),
        *,
        caching: str = "no-store",
    ) -> None:
        super().__init__(status, body, (*headers, *PAGE_HEADERS))
        self.content_type = content_type
        self.caching = caching


def read_file(name: str) -> bytes:
    """Return the content of a file below ``files/``."""
    return _FILES.joinpath(*name.split("/")).read_bytes()


class _Copy(NamedTuple):
    etag: str  # weak, because it is that of both forms
    compressed: bytes


class Asset:
    """A file below ``files/``, e.g. ``swagger-ui/swagger-ui.css``.

    Raises KeyError if its extension has no media type.
    """

    def __init__(self, name: str) -> None:
        self.content_type = _TYPES[name.rpartition(".")[2]]
        self._name = name
        self._copy = Lazy(self._load)

    async def serve(
        self, _: RequestContext, request: web.BaseRequest, __: tuple[str, ...]
    ) -> PageResponse:
        """Return the file, compressed if the client can decompress it, or a 304."""
        copy = await self._copy.get()
        status, body = 200, b""
        coding: Fields = ()
        if has_copy(request.headers, copy.etag):
            status = 304
        elif takes_gzip(request.headers):
            body, coding = copy.compressed, _GZIP
        else:
            body = await asyncio.to_thread(read_file, self._name)
        headers = (("ETag", copy.etag), ("Vary", "Accept-Encoding"), *coding)
        return PageResponse(status, body, self.content_type, headers, caching="no-cache")

    def _load(self) -> _Copy:
        content = read_file(self._name)
        etag = hashlib.sha256(content).hexdigest()[:16]
        return _Copy(f'W/"{etag}"', gzip.compress(content, mtime=0))
