"""Hooks of schemathesis for rules that the OpenAPI document cannot state (SCHEMATHESIS_HOOKS)."""

from typing import Any

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

from session_service.domain.webhooks import MAX_URL_LENGTH

# Rules that relate a value to another value, or to the state of a session. JSON Schema cannot state
# them; the document describes them, and the service's error messages contain these texts.
RULES = (
    "all must be left out if userId or agentId is set",
    "userId, agentId or all is required",
    "order must be left out unless userId is set",
    "authorId must be the session's userId or agentId",
    "cursor must be the nextCursor of an earlier page of the same listing",
    "maxDurationMinutes must be at least timeoutMinutes",
    "warningThresholdMinutes must be at most timeoutMinutes",
    "The Idempotency-Key was used for another request",
    "would put expiresAt in the past",
    "it has reached its maximum duration",
    "metadata must have at most",
    "secret must be whsec_ and 24 to 64 bytes in base64",
    "url must be",
)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:  # noqa: ARG001
    """Register webhooks only for a host that cannot exist, if their URL fits the document."""
    url = str(body.get("url")) if isinstance(body, dict) else ""
    if url.startswith(("http://", "https://")) and len(url) <= MAX_URL_LENGTH:
        return {**body, "url": "https://nobody.invalid/"}
    return body


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,  # noqa: ARG001 - the hook's signature
    failure: Exception,
    case: schemathesis.Case[Any],  # noqa: ARG001
    response: schemathesis.Response,
) -> bool:
    """Accept the rejection of data that fits the document if one of the rules is the reason."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    return not any(rule in response.json()["error"]["message"] for rule in RULES)
