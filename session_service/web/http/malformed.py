"""Which error answers bytes that aiohttp's parser does not take as a request."""

from aiohttp.http_exceptions import LineTooLong

from session_service.domain.budgets import HEADERS_BYTES, TARGET_BYTES
from session_service.domain.errors import ServiceError
from session_service.web.http.errors import (
    BadRequest,
    HeadersTooLarge,
    HttpVersionNotSupported,
    UriTooLong,
)

# Parts of the messages of the parser (llhttp) about a version in the request line.
_VERSION_PROBLEMS = ("Invalid HTTP version", "Expected dot", "Pause on PRI/Upgrade")


def error_of(problem: BaseException | None) -> ServiceError:
    """Return the error for what the parser, or BoundedHeads, raised."""
    if isinstance(problem, ServiceError):  # put there by BoundedHeads
        return problem
    if isinstance(problem, LineTooLong):
        is_target = problem.args[1] == TARGET_BYTES  # the parser names the limit, not the place
        return UriTooLong(TARGET_BYTES) if is_target else HeadersTooLarge(HEADERS_BYTES)
    text = str(problem)
    if "Too many headers" in text:
        return HeadersTooLarge(HEADERS_BYTES)
    if any(each in text for each in _VERSION_PROBLEMS):
        return HttpVersionNotSupported()
    return BadRequest()
