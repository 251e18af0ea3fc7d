"""Messages of a conversation."""

import msgspec

from session_service.domain.budgets import CONTENT_CHARACTERS
from session_service.domain.errors import ValidationFailed


class NewMessage(msgspec.Struct, frozen=True):
    """A message to store. Without ``author_id`` it is from the session's user.

    A user's content has at most CONTENT_CHARACTERS Unicode code points, an agent's has at most
    ``reply_bytes`` bytes of UTF-8.
    """

    content: str
    author_id: str | None
    metadata: bytes  # compact JSON object, e.g. b'{"source":"web"}'
    attachments: bytes | None  # compact JSON array

    def stored(
        self, message_id: str, author_id: str, created_at: int, *, is_agent: bool
    ) -> "Message":
        """Return the message as it was stored at a time, in epoch milliseconds."""
        return Message(
            id=message_id,
            content=self.content,
            author_id=author_id,
            is_agent=is_agent,
            created_at=created_at,
            metadata=self.metadata,
            attachments=self.attachments,
        )

    def long_for(self, reply_bytes: int) -> str:
        """Return ``user`` or ``agent`` if the content is too long for the other, otherwise ''.

        Raises ValidationFailed if it is too long for each possible author.
        """
        fits_user = len(self.content) <= CONTENT_CHARACTERS
        if fits_user and reply_bytes >= 4 * CONTENT_CHARACTERS:
            return ""
        fits_agent = len(self.content.encode()) <= reply_bytes
        if fits_user:
            return "" if fits_agent else "user"
        if self.author_id is None or not fits_agent:
            raise content_too_long(reply_bytes)
        return "agent"


def content_too_long(reply_bytes: int) -> ValidationFailed:
    """Return the error for content that is too long for its author."""
    return ValidationFailed(
        "content",
        f"must be a string of 1 to {CONTENT_CHARACTERS} characters, or if authorId is the agent's,"
        f" of at most {reply_bytes:,} bytes of UTF-8",
    )


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
    """A page of a conversation, newest first."""

    messages: list[Message]
    has_more: bool  # in the direction of the request: older ones, or newer ones
