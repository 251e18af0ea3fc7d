"""The format of messages in Redis.

A conversation is a list with one element for each message, the oldest first::

    created by metadataLength attachmentsLength <id><metadata><attachments><content>

``created`` is in epoch milliseconds and grows by at least one from message to message. ``by`` is
``u`` for the user and ``a`` for the agent. The id is its 16 bytes. Metadata and attachments are
compact JSON of the given numbers of bytes; the metadata ``{}`` and no attachments have length 0.
The content fills the rest. For example, where ``…`` is the id::

    1768473045123 u 16 0 …{"source":"web"}Hello

The time is absolute, so that a page can be found by bisection (lua/page.lua).
"""

from session_service.domain.errors import RecordUnreadable
from session_service.domain.messages import Message, NewMessage
from session_service.domain.times import LATEST_MS
from session_service.store.records import ID_LENGTH, pack_id, unpack_id

_NO_METADATA = b"{}"
_BRACE, _END_BRACE, _BRACKET, _END_BRACKET = b"{}[]"


def pack_message(message_id: str, new: NewMessage) -> bytes:
    """Return the part of a message after its author, which lua/send.lua completes.

    E.g. ``b"0 0 <id>Hello"``, in which the id is 16 bytes.
    """
    metadata = b"" if new.metadata == _NO_METADATA else new.metadata
    attachments = new.attachments or b""
    lengths = b"%d %d " % (len(metadata), len(attachments))
    content = new.content.encode()
    return b"".join((lengths, pack_id(message_id), metadata, attachments, content))


def unpack_message(element: bytes, agent_id: str, user_id: str) -> Message:
    """Return the message of an element of a conversation; raises RecordUnreadable."""
    try:  # a regular expression would take 1.5 times as long
        created, by, metadata_length, attachments_length, rest = element.split(b" ", 4)
        created_at = int(created)
        middle = ID_LENGTH + int(metadata_length)
        end = middle + int(attachments_length)
        content = rest[end:].decode()
    except ValueError:
        raise RecordUnreadable from None
    if not ID_LENGTH <= middle <= end <= len(rest) or not 0 <= created_at <= LATEST_MS:
        raise RecordUnreadable
    metadata, attachments = rest[ID_LENGTH:middle], rest[middle:end]
    is_agent = by == b"a"
    if (
        not (is_agent or by == b"u")
        or (metadata and not (metadata[0] == _BRACE and metadata[-1] == _END_BRACE))
        or (attachments and not (attachments[0] == _BRACKET and attachments[-1] == _END_BRACKET))
    ):
        raise RecordUnreadable
    return Message(
        id=unpack_id(rest[:ID_LENGTH]),
        content=content,
        author_id=agent_id if is_agent else user_id,
        is_agent=is_agent,
        created_at=created_at,
        metadata=metadata or _NO_METADATA,
        attachments=attachments or None,
    )
