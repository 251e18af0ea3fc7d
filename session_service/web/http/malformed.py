"""Maps the errors of aiohttp's parser to those of the service."""

from aiohttp.http_exceptions import LineTooLong

from session_service.domain.budgets import HEADERS_BYTES, TARGET_BYTES
from session_service.domain.errors import ServiceError
from session_service.web.http.errors import (
    BadRequest,
    HeadersTooLarge,
    HttpVersionNotSupported,
    UriTooLong,
)

# Parts of the parser's (llhttp's) messages about the version in the request line.
_VERSION_PROBLEMS = ("Invalid HTTP version", "Expected dot", "Pause on PRI/Upgrade")


def error_of(problem: BaseException | None) -> ServiceError:
    """Return the error for an exception of the parser, or from BoundedHeads."""
    if isinstance(problem, ServiceError):  # put there by BoundedHeads
        return problem
    if isinstance(problem, LineTooLong):
        is_target = problem.args[1] == TARGET_BYTES  # the message has the limit, not the part
        return UriTooLong(TARGET_BYTES) if is_target else HeadersTooLarge(HEADERS_BYTES)
    text = str(problem)
    if "Too many headers" in text:
        return HeadersTooLarge(HEADERS_BYTES)
    if any(each in text for each in _VERSION_PROBLEMS):
        return HttpVersionNotSupported()
    return BadRequest()
