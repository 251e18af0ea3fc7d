"""Repair of the indexes of sessions: after evictions, and for sessions that are gone."""

from typing import Any, NamedTuple

from session_service.store.client.script import Arguments, Digits, NoArguments, Script
from session_service.store.scripts.library import LIBRARY


class Verified(NamedTuple):
    """The evictions after which the indexes were verified last."""

    evictions: bytes  # b"" if they were never verified
    is_pending: int  # 1 if a verification has begun that did not end yet


VERIFIED = Script(
    LIBRARY,
    "verified",
    keys=("verified",),
    arguments=NoArguments,
    reply=Verified._make,
    writes=False,
)


class ClaimVerificationArguments(Arguments):
    """A node, and how long the others leave the verification to it."""

    node: str
    lease_ms: int


CLAIM_VERIFICATION = Script(
    LIBRARY,
    "claim_verification",
    keys=("verified",),
    arguments=ClaimVerificationArguments,
    parts=("clock",),
    reply=bool,  # whether the node has it
)


class ConfirmVerificationArguments(Arguments):
    """The evictions before which the verification began, e.g. ``4f1c…:120``."""

    evictions: str
    kept_ms: Digits


CONFIRM_VERIFICATION = Script(
    LIBRARY,
    "confirm_verification",
    keys=("verified",),
    arguments=ConfirmVerificationArguments,
    reply=lambda _: None,
)


class RepairArguments(Arguments):
    """A part of the listing, and lost sessions, which are removed with the last part."""

    start: bytes  # of the members, or b"" for all
    after: bytes  # the member after which to start, or b""
    limit: int  # members
    lost_ids: tuple[bytes, ...]


class Repaired(NamedTuple):
    """How many members of the listing were removed, and the member after which to continue."""

    removed: int
    after: bytes  # b"" at the end
    is_whole: int  # at the end: 1 if as many sessions have a deadline as are listed


REPAIR = Script(
    LIBRARY,
    "repair",
    keys=("session", "messages", "warn", "expire", "unreadable", "listing"),
    arguments=RepairArguments,
    parts=("ids",),
    reply=Repaired._make,
)


class RestoreDeadlinesArguments(Arguments):
    """A part of the listing."""

    retention_ms: int
    after: bytes  # the member after which to start, or b""
    limit: int


class Restored(NamedTuple):
    """How many entries were written, and where to continue."""

    restored: int
    position: Any  # a member, b"" at the end; or a place, -1 at the end


RESTORE_DEADLINES = Script(
    LIBRARY,
    "restore_deadlines",
    keys=("session", "warn", "expire", "listing"),
    arguments=RestoreDeadlinesArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "outlive", "deadline"),
    reply=Restored._make,
)


class RestoreListingArguments(Arguments):
    """A part of the deadlines."""

    retention_ms: int
    after_warning: bool
    first: int  # place
    limit: int


RESTORE_LISTING = Script(
    LIBRARY,
    "restore_listing",
    keys=("session", "messages", "warn", "expire", "listing"),
    arguments=RestoreListingArguments,
    parts=("clock", "ids", "lifetime", "record", "lookup", "outlive", "deadline", "listing"),
    reply=Restored._make,
)
