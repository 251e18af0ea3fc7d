"""Messages: send one, and read the history of a conversation."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from session_service.api.base import (
    Metadata,
    Request,
    ResponseBody,
    Timestamp,
    TimestampParam,
    raw_json,
)
from session_service.domain.budgets import (
    ATTACHMENT_BYTES,
    ATTACHMENTS,
    ATTACHMENTS_BYTES,
    CONTENT_CHARACTERS,
    HISTORY_LIMIT,
)
from session_service.domain.ids import UUID_PATTERN
from session_service.domain.messages import History, Message
from session_service.domain.sessions import Session
from session_service.domain.times import iso


def _with_text(name: str) -> dict[str, Any]:
    """Return the JSON Schema of an object whose member ``name`` is a string, and not null."""
    return {"required": [name], "properties": {name: {"type": "string"}}}


class Attachment(Request):
    """A reference to a file, with its type or contentType; other members are stored, too."""

    url: Annotated[str, Meta(min_length=1, description="a string that is not empty")]
    type: (
        Annotated[
            str,
            Meta(min_length=1, description="a string such as image, file, audio, video, document"),
        ]
        | None
    ) = None
    content_type: (
        Annotated[str, Meta(min_length=1, description="a media type such as image/png")] | None
    ) = None
    name: Annotated[str, Meta(description="a string")] | None = None


class SendMessage(Request):
    """A request to send a message."""

    content: Annotated[
        str,
        Meta(
            min_length=1,
            description=f"a string of 1 to {CONTENT_CHARACTERS} characters, or if authorId is the"
            " agent's, of at most SESSION_REPLY_MAX_BYTES bytes of UTF-8",
        ),
    ]
    author_id: (
        Annotated[
            str,
            Meta(pattern=UUID_PATTERN, description="the session's userId (the default) or agentId"),
        ]
        | None
    ) = None
    metadata: Metadata | None = None
    attachments: (
        Annotated[
            list[
                Annotated[
                    dict[str, Any],
                    Meta(
                        description="an object with url, and type or contentType, of at most"
                        f" {ATTACHMENT_BYTES:,} bytes as compact UTF-8 JSON",
                        extra_json_schema={
                            "$ref": "#/components/schemas/Attachment",
                            "anyOf": [_with_text("type"), _with_text("contentType")],
                        },
                    ),
                ]
            ],
            Meta(
                max_length=ATTACHMENTS,
                description=f"an array of at most {ATTACHMENTS} attachments,"
                f" of at most {ATTACHMENTS_BYTES:,} bytes together",
            ),
        ]
        | None
    ) = None
    # How the agent replies (docs/api.md). The service does not use them yet.
    transport: (
        Annotated[Literal["http", "sse", "websocket"], Meta(description="http, sse or websocket")]
        | None
    ) = None
    mode: (
        Annotated[
            Literal["sync", "stream", "websocket"],
            Meta(description="sync, stream or websocket; the older name of transport"),
        ]
        | None
    ) = None


class ReadHistory(Request):
    """The query of a page of messages. ``before`` and ``after`` are exclusive."""

    limit: Annotated[
        int, Meta(ge=1, le=HISTORY_LIMIT, description=f"a whole number from 1 to {HISTORY_LIMIT}")
    ] = 50
    before: TimestampParam | UnsetType = UNSET
    after: TimestampParam | UnsetType = UNSET


class MessageInfo(ResponseBody):
    """A message of a conversation."""

    id: str
    content: str
    author_id: str
    is_agent: bool
    created_at: Timestamp
    metadata: dict[str, Any]
    attachments: list[dict[str, Any]] | UnsetType = UNSET

    @classmethod
    def of(cls, message: Message) -> "MessageInfo":
        """Return the response for a message."""
        return cls(
            id=message.id,
            content=message.content,
            author_id=message.author_id,
            is_agent=message.is_agent,
            created_at=iso(message.created_at),
            metadata=raw_json(message.metadata),
            attachments=UNSET if message.attachments is None else raw_json(message.attachments),
        )


class SessionStatus(ResponseBody):
    """The state of a session after a message."""

    expires_at: Timestamp
    renewal_count: int
    was_renewed: bool
    is_near_expiration: bool


class MessageSent(ResponseBody):
    """A stored message, at the top level and again as ``userMessage``: clients read either one."""

    id: str
    content: str
    author_id: str
    created_at: Timestamp
    metadata: dict[str, Any]
    session_status: SessionStatus
    user_message: MessageInfo
    attachments: list[dict[str, Any]] | UnsetType = UNSET

    @classmethod
    def of(cls, message: Message, session: Session, was_renewed: bool) -> "MessageSent":
        """Return the response for a message and its session."""
        info = MessageInfo.of(message)
        return cls(
            id=info.id,
            content=info.content,
            author_id=info.author_id,
            created_at=info.created_at,
            metadata=info.metadata,
            attachments=info.attachments,
            session_status=SessionStatus(
                expires_at=iso(session.expires_at),
                renewal_count=session.renewal_count,
                was_renewed=was_renewed,
                is_near_expiration=session.is_near_expiration,
            ),
            user_message=info,
        )


class Cursors(ResponseBody):
    """The times for the next pages, in epoch milliseconds."""

    before: Annotated[
        int,
        Meta(description="of the oldest message: pass it as before, to page back"),
    ]
    after: Annotated[
        int,
        Meta(description="of the newest message: pass it as after, to page forward"),
    ]


class MessagePage(ResponseBody):
    """A page of a conversation, newest first."""

    messages: list[MessageInfo]
    has_more: Annotated[bool, Meta(description="whether more messages follow in this direction")]
    cursors: Annotated[Cursors, Meta(description="absent if messages is empty")] | UnsetType = UNSET

    @classmethod
    def of(cls, history: History) -> "MessagePage":
        """Return the response for a page."""
        messages = history.messages
        return cls(
            messages=[MessageInfo.of(message) for message in messages],
            has_more=history.has_more,
            cursors=(
                Cursors(before=messages[-1].created_at, after=messages[0].created_at)
                if messages
                else UNSET
            ),
        )


class ConversationErased(ResponseBody):
    """The conversation has been erased."""

    message: Annotated[str, Meta(examples=["Conversation erased successfully"])]
