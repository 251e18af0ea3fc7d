"""A route: its path, what it takes, what it answers and how it can fail."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from session_service.api.base import Request, ResponseBody
from session_service.domain.errors import (
    IdempotencyConflict,
    IdempotencyMismatch,
    ServiceError,
    TooManyKeys,
    ValidationFailed,
)
from session_service.web.http.errors import (
    BadRequest,
    Forbidden,
    InternalError,
    InvalidJson,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    RequestTimeout,
    UnsupportedMediaType,
)
from session_service.web.http.response import Answer
from session_service.web.streaming.sse import EventStream, is_final

# Takes the service, then the path's id, then the body or query, each where the route has it.
Handler = Callable[..., Awaitable[Answer | EventStream]]

MESSAGING = "/api/messaging"

IDEMPOTENCY_KEY = "Idempotency-Key"


class Route(NamedTuple):
    """One operation. ``body`` or ``query`` is the type its handler is given.

    ``is_atomic`` where all it does to the store is one script, which then can remember its outcome.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    description: str
    status: int
    response: type[ResponseBody]
    answer: str  # what the success is called
    errors: tuple[type[ServiceError], ...] = ()
    body: type[Request] | None = None
    query: type[Request] | None = None
    streams: bool = False  # the response is what each event of the stream says
    is_atomic: bool = False
    is_limited: bool = False  # CreateLimit counts it

    @property
    def parameter(self) -> str:
        """What the id in its path is called, if it has one."""
        return self.path.partition("{")[2].partition("}")[0]

    @property
    def takes_key(self) -> bool:
        """Whether it heeds the Idempotency-Key header."""
        return self.method in ("POST", "DELETE") and self.path.startswith("/api/")

    @property
    def all_errors(self) -> tuple[type[ServiceError], ...]:
        """Its own errors, and those of every operation of its kind."""
        common: tuple[type[ServiceError], ...] = (BadRequest, Forbidden, InternalError)
        if self.path.startswith("/api/"):
            common += (Overloaded,)
        if self.body:
            common += _BODY_ERRORS
        if self.is_limited:
            common += (RateLimited,)
        if self.takes_key:
            common += (ValidationFailed, IdempotencyMismatch)
            common += () if self.is_atomic else (IdempotencyConflict,)
            common += (TooManyKeys,) if self.method == "POST" and self.parameter else ()
        errors = tuple(dict.fromkeys(self.errors + common))
        return tuple(filter(is_final, errors)) if self.streams else errors


_BODY_ERRORS = (
    InvalidJson,
    ValidationFailed,
    RequestTimeout,
    PayloadTooLarge,
    UnsupportedMediaType,
)
