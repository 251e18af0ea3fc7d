"""API keys: their registry, one key in the store."""

from session_service.store.client.script import Arguments, Digits, Script
from session_service.store.scripts.library import LIBRARY
from session_service.store.scripts.registry import ListArguments, fields_of

_KEYS = ("api_keys",)


LIST = Script(
    LIBRARY,
    "api_keys/list",
    keys=_KEYS,
    arguments=ListArguments,
    reply=fields_of,  # ids and records, and the version, or None if the version is the known one
    writes=False,  # what is done again if it is lost need not be acknowledged
)


def _record(reply: bytes | None) -> bytes | None:
    return reply


class PutArguments(Arguments):
    """A new key."""

    key_id: str
    expires_in_ms: int | None
    hash: str
    json: bytes
    max_keys: int
    kept_ms: Digits


PUT = Script(
    LIBRARY,
    "api_keys/put",
    keys=_KEYS,
    arguments=PutArguments,
    parts=("clock", "api_keys/change"),
    reply=_record,  # the record; b"" if the id is taken; None if there is no room
)


class RotateArguments(Arguments):
    """The hash of a key's new text, and for how long the old one is accepted beside it."""

    key_id: str
    overlap_ms: int
    hash: str
    kept_ms: Digits


ROTATE = Script(
    LIBRARY,
    "api_keys/rotate",
    keys=_KEYS,
    arguments=RotateArguments,
    parts=("clock", "api_keys/change"),
    reply=_record,  # the new record, or None if there is no valid key of this id
)


class RevokeArguments(Arguments):
    """A key."""

    key_id: str
    kept_ms: Digits


REVOKE = Script(
    LIBRARY,
    "api_keys/revoke",
    keys=_KEYS,
    arguments=RevokeArguments,
    parts=("clock", "api_keys/change"),
    reply=bool,  # whether there was one
)
