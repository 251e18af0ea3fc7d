"""Claims of an Idempotency-Key."""

from typing import NamedTuple

from session_service.domain.errors import IdempotencyConflict, IdempotencyMismatch
from session_service.store.client.script import Arguments, Script
from session_service.store.scripts.library import LIBRARY


class ClaimArguments(Arguments):
    """A request that an Idempotency-Key is claimed for."""

    request: str  # its fingerprint
    seed: bytes
    lease_ms: int | None  # None if it is one atomic step


class Claimed(NamedTuple):
    """The seed of the first claim, and the response if the request has been made."""

    seed: bytes
    response: bytes | None = None


def _claimed(reply: bytes | list[bytes]) -> Claimed:
    if isinstance(reply, bytes):
        raise IdempotencyMismatch if reply == b"mismatch" else IdempotencyConflict
    return Claimed(*reply)


CLAIM = Script(
    LIBRARY,
    "claim",
    keys=("claim",),
    arguments=ClaimArguments,
    reply=_claimed,  # raises IdempotencyMismatch, IdempotencyConflict
)


class RecordArguments(Arguments):
    """The seed of a claim, and the response to its request, if there is one."""

    seed: bytes
    response: bytes | None


RECORD = Script(
    LIBRARY,
    "record_response",
    keys=("claim",),
    arguments=RecordArguments,
    reply=bool,  # False if the claim no longer exists
)
