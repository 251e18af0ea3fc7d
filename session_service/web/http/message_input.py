"""The message in a request, which comes by HTTP or by a socket."""

from session_service.api.messages import SendMessage
from session_service.domain.messages import NewMessage
from session_service.web.http.decoding import compact_attachments, compact_metadata, lower


def message_of(given: SendMessage) -> NewMessage:
    """Check a message that came by HTTP or by a socket; raises ValidationFailed."""
    return NewMessage(
        content=given.content,
        author_id=lower(given.author_id),
        metadata=compact_metadata(given.metadata),
        attachments=compact_attachments(given.attachments),
    )
