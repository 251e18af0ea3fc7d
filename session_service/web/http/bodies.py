"""Bodies of requests: how they are encoded, and their bytes."""

import re
from functools import lru_cache

from aiohttp import web
from multidict import CIMultiDictProxy, istr

from session_service.domain.budgets import BODY_BYTES, BODY_RATE, BODY_SECONDS
from session_service.web.http.admission import Admission
from session_service.web.http.errors import (
    BadRequest,
    CodingNotSupported,
    ContentCodingNotSupported,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)

_BODY_ALLOWED = (
    f"{BODY_SECONDS:g} seconds, at {BODY_RATE:,} bytes a second or more; less if too many bodies"
    " arrive slowly at once."
)

_CONTENT_TYPE = istr("Content-Type")
CONTENT_ENCODING = istr("Content-Encoding")
TRANSFER_ENCODING = istr("Transfer-Encoding")
_is_json_type = re.compile(
    r"\s*application/(?:[a-z0-9!#$&^_.-]+\+)?json\s*(?:;.*)?", re.ASCII | re.IGNORECASE
).fullmatch


def check_codings(headers: CIMultiDictProxy[str]) -> None:
    """Check the codings of a body: it may be chunked, and must not be compressed.

    A few KB can decompress to GB, and bodies are too small to be worth compressing. Raises
    ContentCodingNotSupported or CodingNotSupported.
    """
    codings = headers.getall(CONTENT_ENCODING, ())
    if codings and any(coding.strip().lower() != "identity" for coding in codings):
        raise ContentCodingNotSupported
    transfers = headers.getall(TRANSFER_ENCODING, ())
    if transfers and any(coding.strip().lower() != "chunked" for coding in transfers):
        raise CodingNotSupported


async def read_body(request: web.BaseRequest, admission: Admission) -> bytes:
    """Read a body that is declared as JSON, such as ``application/json; charset=utf-8``.

    A second call returns the same bytes. A request without a body need not declare a type. Raises
    UnsupportedMediaType, PayloadTooLarge, RequestTimeout, BadRequest or Overloaded.
    """
    if request.body_exists and not _is_json(request.headers.get(_CONTENT_TYPE, "")):
        raise UnsupportedMediaType
    return await read_bytes(request, admission)


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    return _is_json_type(content_type) is not None


async def read_bytes(
    request: web.BaseRequest, admission: Admission, limit: int = BODY_BYTES
) -> bytes:
    """Read a body of any type; raises PayloadTooLarge, RequestTimeout, BadRequest or Overloaded.

    Raises ConnectionResetError if the client closes the connection before the body is complete.
    """
    try:
        if request.content.is_eof():  # it arrived with the head, as small bodies do
            return await request.read()
        if (request.content_length or 0) > limit:  # before a client that sent Expect sends it
            raise PayloadTooLarge(limit)
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with admission.body(request.content):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge(BODY_BYTES) from None
    except TimeoutError:
        raise RequestTimeout("body", _BODY_ALLOWED) from None
    except web.RequestPayloadError as error:
        raise BadRequest("The body is cut off.") from error
    except ConnectionResetError as error:
        # The body keeps this error, whose traceback leads back to the body: a cycle of 25 objects.
        error.__traceback__ = None
        raise ConnectionResetError from None
    except RuntimeError:  # aiohttp's, if the client had gone before the body was read
        if request.transport is not None:
            raise
        raise ConnectionResetError from None
