"""The calls that registries share: of webhooks and of API keys, each a hash with a version."""

from session_service.store.client.protocol import RawReply
from session_service.store.client.script import Arguments


class ListArguments(Arguments):
    """The version of the registry that the caller knows, or b"" for none."""

    known_version: bytes
    kept_ms: int


def fields_of(reply: RawReply) -> dict[bytes, bytes] | None:
    """Return the fields of a registry, or None if the caller knows its version."""
    if reply == b"same":
        return None
    return dict(zip(reply[::2], reply[1::2], strict=True))
