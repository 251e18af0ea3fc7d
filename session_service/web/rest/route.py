"""Routes: one operation each, with its path, its types and its errors."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from session_service.api.base import Request, ResponseBody
from session_service.domain.credentials import Permission
from session_service.domain.errors import (
    IdempotencyConflict,
    IdempotencyMismatch,
    RateLimited,
    ServiceError,
    StoreUnavailable,
    TooManyKeys,
    ValidationFailed,
)
from session_service.web.http.errors import (
    ERRORS,
    BadRequest,
    Forbidden,
    InternalError,
    InvalidJson,
    Overloaded,
    PayloadTooLarge,
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


class Public(Enum):
    """The access of an operation that needs no credential."""

    PUBLIC = "public"


PUBLIC = Public.PUBLIC


def is_api_path(path: str) -> bool:
    """Return whether a path belongs to the API, so that overload and idempotency apply to it.

    All others, such as probes and the document, are always served.
    """
    return path.startswith("/api/")


@dataclass(frozen=True, kw_only=True)
class Route:
    """One operation, documented by its handler.

    The handler's name becomes the operation id, e.g. ``getSession`` for ``get_session``. Its
    docstring becomes the description, and the first line of that the summary, unless ``summary`` is
    set::

        Route(
            method="GET",
            path="/api/messaging/sessions/{sessionId}",
            handler=get_session,
            tag=Tag.MESSAGING,
            access=Permission.SESSIONS_READ,
            response=SessionInfo,
            success="The session",
            errors=(SessionNotFound, SessionExpired, RecordUnreadable, StoreUnavailable),
        )

    Raises ValueError if the path cannot be routed, see ``router.ids_of``.
    """

    method: str
    path: str
    handler: Handler
    tag: Tag
    access: Permission | Public  # of the caller, if access control is on
    access_note: str = ""  # a sentence for the description, if access control is on
    response: type[ResponseBody]  # for a stream: the data of each event
    success: str  # the description of the response
    status: int = 200
    errors: tuple[type[ServiceError], ...] = ()
    body: type[Request] | None = None
    query: type[Request] | None = None
    summary: str = ""
    id_descriptions: Mapping[str, str] = field(default_factory=dict)  # if not "ID of the session"
    created: tuple[str, ...] = ()  # names of ids in the response: that of the new resource first
    unhealthy_body: type[ResponseBody] | None = None  # of a 503, in place of an error
    streams: bool = False
    is_atomic: bool = False  # it runs one script, which can record its own reply
    is_secret: bool = False  # its response must not be stored, so it takes no Idempotency-Key
    is_limited: bool = False  # CreateLimit applies to it
    also: Mapping[int, str] = field(default_factory=dict)  # other successes, by status

    def __post_init__(self) -> None:
        """Raise ValueError if the path cannot be routed."""
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
        return self.method in ("POST", "DELETE") and self.is_api and not self.is_secret

    @property
    def is_charged_by_script(self) -> bool:
        """Whether its first script charges a user's limit, in place of a script before it.

        Not if the response is recorded: a 429 must not be replayed.
        """
        reads = self.tag is Tag.MESSAGING and bool(self.ids) and not self.takes_idempotency_key
        return self.is_atomic or (reads and not self.streams)

    @property
    def all_errors(self) -> tuple[type[ServiceError], ...]:
        """Its own errors, and those that all operations like it share."""
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
        return self._reported(self.errors + common)

    @property
    def access_errors(self) -> tuple[type[ServiceError], ...]:
        """The errors that it has besides if access control is on.

        ValidationFailed is for a request with two credentials, and StoreUnavailable for API keys
        that cannot be read.
        """
        if isinstance(self.access, Public):
            return ()
        of_access = (error for error, spec in ERRORS.items() if spec.of_access)
        return self._reported((ValidationFailed, RateLimited, StoreUnavailable, *of_access))

    def _reported(self, errors: tuple[type[ServiceError], ...]) -> tuple[type[ServiceError], ...]:
        """Return each error once, and of a stream only those that are not answered 200."""
        errors = tuple(dict.fromkeys(errors))
        return tuple(filter(is_final, errors)) if self.streams else errors
