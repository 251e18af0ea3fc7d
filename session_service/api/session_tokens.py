"""Session tokens: mint one for a page."""

from typing import Annotated

from msgspec import Meta

from session_service.api.base import Request, ResponseBody, Timestamp
from session_service.domain.credentials import SESSION_TOKEN_PERMISSIONS

MAX_MINUTES = 60
DEFAULT_MINUTES = 15
SCOPES_FORMAT = f"an array of some of {', '.join(SESSION_TOKEN_PERMISSIONS)}; at least one"


class CreateSessionToken(Request):
    """A request for a session token."""

    scopes: Annotated[
        list[Annotated[str, Meta(extra_json_schema={"enum": [*SESSION_TOKEN_PERMISSIONS]})]],
        Meta(min_length=1, description=SCOPES_FORMAT),
    ]
    expires_in_minutes: (
        Annotated[
            float,
            Meta(
                gt=0,
                le=MAX_MINUTES,
                description=f"a number of minutes above 0, at most {MAX_MINUTES}"
                f" (default {DEFAULT_MINUTES})",
            ),
        ]
        | None
    ) = None


class SessionToken(ResponseBody):
    """A token for one session."""

    token: Annotated[str, Meta(description="to be sent as Authorization: Bearer")]
    expires_at: Timestamp
    scopes: list[str]
