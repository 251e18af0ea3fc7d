"""Messages in requests, which REST and Socket.IO share."""

from session_service.api.messages import SendMessage
from session_service.domain.messages import NewMessage
from session_service.web.http.decoding import compact_attachments, compact_metadata, lower


def message_of(body: SendMessage) -> NewMessage:
    """Return the message in a request; raises ValidationFailed for its metadata or attachments."""
    return NewMessage(
        content=body.content,
        author_id=lower(body.author_id),
        metadata=compact_metadata(body.metadata),
        attachments=compact_attachments(body.attachments),
    )
