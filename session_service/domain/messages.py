"""Messages of a conversation."""

import msgspec


class NewMessage(msgspec.Struct, frozen=True):
    """What a caller sends. ``author_id`` None stands for the session's user."""

    content: str
    author_id: str | None
    metadata: bytes  # compact JSON object
    attachments: bytes | None  # compact JSON array


class Message(msgspec.Struct, frozen=True):
    """A stored message. ``created_at``, epoch milliseconds, is unique within its session."""

    id: str
    content: str
    author_id: str
    is_agent: bool
    created_at: int
    metadata: bytes
    attachments: bytes | None


class History(msgspec.Struct, frozen=True):
    """A page of a conversation, newest first; ``has_more`` lie beyond it in the direction asked."""

    messages: list[Message]
    has_more: bool
