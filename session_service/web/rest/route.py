"""A route: one operation, what it takes, what it returns and how it can fail."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

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
from session_service.web.http.response import Response
from session_service.web.rest.router import ids_of
from session_service.web.streaming.sse import is_final

# Takes the context, then each id of the path, then the body or query if the route has one.
Handler = Callable[..., Awaitable[Response]]

IDEMPOTENCY_KEY = "Idempotency-Key"
MESSAGING = "/api/messaging"

_BODY_ERRORS = (
    InvalidJson,
    ValidationFailed,
    RequestTimeout,
    PayloadTooLarge,
    UnsupportedMediaType,
)


class Tag(StrEnum):
    """The groups of operations, in the document's order."""

    MESSAGING = "messaging"
    EVENTS = "events"
    WEBHOOKS = "webhooks"
    PROBES = "probes"


class Access(Enum):
    """The permission that a caller needs."""

    PUBLIC = "public"


def is_api_path(path: str) -> bool:
    """Return whether a path belongs to the API, so that overload and idempotency apply to it.

    All others, such as probes and the document, are always served.
    """
    return path.startswith("/api/")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation. Its documentation comes from the handler's name and docstring.

    ``GET /api/messaging/sessions/{sessionId}`` with the handler ``get_session`` has the operation
    id ``getSession``. The docstring's first line is its summary, unless ``summary`` is set, and the
    docstring is its description.
    """

    method: str
    path: str  # with one or two ids at most, each a whole segment: /sessions/{sessionId}/renew
    handler: Handler
    tag: Tag
    access: Access
    response: type[ResponseBody]  # of a stream: the data of each event
    success: str  # describes the response
    status: int = 200
    errors: tuple[type[ServiceError], ...] = ()
    body: type[Request] | None = None
    query: type[Request] | None = None
    summary: str = ""
    id_descriptions: Mapping[str, str] = field(default_factory=dict)  # default: ID of the session
    created: tuple[str, ...] = ()  # ids in the response that name the new resource, its own first
    unhealthy_body: type[ResponseBody] | None = None  # 503 may have it in place of an error
    streams: bool = False
    is_atomic: bool = False  # its one effect on the store is a script, which can record its reply
    is_limited: bool = False  # CreateLimit counts its requests

    def __post_init__(self) -> None:
        """Raise ValueError if the path is not one that can be routed."""
        ids_of(self.path)

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the ids in the path, e.g. ``("sessionId",)``."""
        return ids_of(self.path)

    @property
    def operation_id(self) -> str:
        """The handler's name in camel case, e.g. ``endSession``."""
        head, *rest = self.handler.__name__.split("_")
        return head + "".join(word.title() for word in rest)

    @property
    def title(self) -> str:
        """The summary: one line without a full stop."""
        return self.summary or self.description.partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        """The handler's docstring in Markdown; a single line loses its full stop."""
        text = (inspect.getdoc(self.handler) or "").replace("``", "`")
        text = re.sub(r"(?<!\n)\n(?!\n)", " ", text)  # Markdown breaks lines by itself
        return text if "\n" in text else text.removesuffix(".")

    @property
    def is_api(self) -> bool:
        """Whether overload and idempotency apply to it."""
        return is_api_path(self.path)

    @property
    def takes_idempotency_key(self) -> bool:
        """Whether it honours the Idempotency-Key header."""
        return self.method in ("POST", "DELETE") and self.is_api

    @property
    def all_errors(self) -> tuple[type[ServiceError], ...]:
        """Its own errors, and those of every operation of its kind."""
        common: tuple[type[ServiceError], ...] = (BadRequest, Forbidden, InternalError)
        if self.is_api:
            common += (Overloaded,)
        if self.body:
            common += _BODY_ERRORS
        if self.is_limited:
            common += (RateLimited,)
        if self.takes_idempotency_key:
            common += (ValidationFailed, IdempotencyMismatch)
            common += () if self.is_atomic else (IdempotencyConflict,)
            common += (TooManyKeys,) if self.method == "POST" and self.ids else ()
        errors = tuple(dict.fromkeys(self.errors + common))
        return tuple(filter(is_final, errors)) if self.streams else errors
