"""Health: the detailed report, and the responses to probes."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from session_service.api.base import ResponseBody, Timestamp
from session_service.api.errors import Error


class SessionsHealth(ResponseBody):
    """The health of the service and of its store."""

    status: Annotated[
        str,
        Meta(
            description="degraded: it works, with the problems in reasons",
            extra_json_schema={"enum": ["healthy", "degraded"]},
        ),
    ]
    active_sessions: int
    expiring_soon: Annotated[int, Meta(description="sessions past their warning threshold")]
    timestamp: Timestamp
    uptime: Annotated[float, Meta(description="seconds since this process started")]
    invalid_sessions: (
        Annotated[
            int,
            Meta(description="sessions with an unreadable record, if any were found"),
        ]
        | UnsetType
    ) = UNSET
    reasons: Annotated[
        list[str] | UnsetType,
        Meta(description="why the service is degraded, one sentence each; absent if it is healthy"),
    ] = UNSET


class Unhealthy(Error, kw_only=True):
    """The health while the store cannot be reached, without counts."""

    status: Annotated[str, Meta(extra_json_schema={"const": "unhealthy"})]
    timestamp: Timestamp
    uptime: float


class ProbeStatus(ResponseBody):
    """The response to a probe; the status is ok or ready."""

    status: str
