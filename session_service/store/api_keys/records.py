"""The records of API keys in Redis (keys.py)."""

import msgspec

from session_service.domain.api_keys import ApiKey, is_key_id
from session_service.domain.credentials import Permission, permissions_of
from session_service.domain.errors import RecordUnreadable

# Of the records that this version writes and reads. A newer format is unreadable, so a node that
# does not know a new restriction accepts no key that has it.
FORMAT = 1

_NO_HASH = b"-"
_HASH_BYTES = 32


class _Json(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The JSON in the record of a key."""

    name: str
    scopes: list[str]
    agents: list[str] | None = None


def pack_details(
    name: str, permissions: frozenset[Permission], agents: frozenset[str] | None
) -> bytes:
    """Encode the JSON of a key, e.g. ``{"name":"billing","scopes":["sessions:read"]}``."""
    bound = None if agents is None else sorted(agents)
    return msgspec.json.encode(_Json(name, sorted(permissions), bound))


def unpack_key(key_id: str, value: bytes) -> ApiKey:
    """Decode a key, e.g. ``1 1764000000000 0 0 0 9f86… - {"name":…}``; raises RecordUnreadable."""
    try:
        head, _, json = value.partition(b" {")
        version, created, expires, revoked, overlap, digest, previous = head.split(b" ")
        details = msgspec.json.decode(b"{" + json, type=_Json)
        is_known = int(version) == FORMAT and is_key_id(key_id) and details.name.isprintable()
        key = ApiKey(
            id=key_id,
            name=details.name,
            hash=bytes.fromhex(digest.decode()),
            previous_hash=None if previous == _NO_HASH else bytes.fromhex(previous.decode()),
            overlap_until=int(overlap) or None,
            permissions=permissions_of(details.scopes),
            agents=None if details.agents is None else frozenset(details.agents),
            created_at=int(created),
            expires_at=int(expires) or None,
            revoked_at=int(revoked) or None,
        )
    except (ValueError, RecursionError) as error:
        raise RecordUnreadable from error
    hashes = {len(each) for each in (key.hash, key.previous_hash) if each is not None}
    if not is_known or hashes != {_HASH_BYTES}:
        raise RecordUnreadable("it is of another form")
    return key
