"""Health: the detailed report, and the replies to probes."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from session_service.api.base import ResponseBody, Timestamp
from session_service.api.errors import Error


class SessionsHealth(ResponseBody):
    """How the service and its store are."""

    status: Annotated[
        str,
        Meta(
            description="degraded: it works, but not as it should; see reasons",
            extra_json_schema={"enum": ["healthy", "degraded"]},
        ),
    ]
    active_sessions: int
    expiring_soon: Annotated[int, Meta(description="sessions past their warning threshold")]
    timestamp: Timestamp
    uptime: Annotated[float, Meta(description="of this process, in seconds")]
    invalid_sessions: (
        Annotated[int, Meta(description="sessions whose record was met and cannot be read, if any")]
        | UnsetType
    ) = UNSET
    reasons: Annotated[
        list[str] | UnsetType,
        Meta(description="why it is degraded, a sentence each; absent otherwise"),
    ] = UNSET


class Unhealthy(Error, kw_only=True):
    """The store cannot be reached, so nothing can be counted."""

    status: Annotated[str, Meta(extra_json_schema={"const": "unhealthy"})]
    timestamp: Timestamp
    uptime: float


class ProbeStatus(ResponseBody):
    """An answer to a probe."""

    status: str
