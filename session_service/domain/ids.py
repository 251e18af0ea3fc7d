"""Identifiers: lower-case UUIDs. The id of a session starts with its shard.

The first two hex digits of a session id, e.g. ``3f`` of ``3f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90``,
are its shard. It is taken from a hash of the user id, so all sessions of a user are in one shard.
The other digits, except for UUID's version and variant, are 114 random bits from the operating
system (contract, "Create").
"""

import hashlib
import re
from collections.abc import Callable

RandomBytes = Callable[[int], bytes]  # such as os.urandom

SHARDS: tuple[str, ...] = tuple(f"{n:02x}" for n in range(256))

# \A and \Z, because $ would also match before a newline at the end.
UUID_PATTERN = r"\A[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"

is_uuid = re.compile(UUID_PATTERN, re.ASCII).fullmatch

_is_session_id = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
).fullmatch


def shard_of_user(user_id: str) -> str:
    """Return the shard of all sessions of a user (lower-case UUID), e.g. ``3f``."""
    return SHARDS[hashlib.sha256(user_id.encode()).digest()[0]]


def shard_of_session(session_id: str) -> str | None:
    """Return the shard in a session id (lower case), or None if the text is no such id."""
    return session_id[:2] if _is_session_id(session_id) else None


def new_id(shard: str, random: RandomBytes) -> str:
    """Make a session id in the shard."""
    digits = random(15).hex()
    variant = "89ab"[int(digits[28], 16) & 3]
    return (
        f"{shard}{digits[0:6]}-{digits[6:10]}-4{digits[10:13]}"
        f"-{variant}{digits[13:16]}-{digits[16:28]}"
    )


def new_webhook_id(random: RandomBytes) -> str:
    """Make a webhook id, in any shard."""
    return new_id(SHARDS[random(1)[0]], random)


def new_message_id(random: RandomBytes) -> str:
    """Make a message id: a UUID of version 4, e.g. ``9b2f6c1e-4d07-4a58-8f13-60c2d5e7ab94``."""
    digits = random(16).hex()  # uuid.UUID takes three times as long
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[0:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"
