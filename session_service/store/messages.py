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

import re

from session_service.domain.errors import RecordUnreadable
from session_service.domain.messages import Message, NewMessage
from session_service.domain.times import LATEST_MS
from session_service.store.records import pack_id, unpack_id

_NO_METADATA = b"{}"

# Time, author, the two lengths, and the id.
_head = re.compile(rb"(\d{1,15}) ([ua]) (\d{1,6}) (\d{1,6}) (.{16})", re.DOTALL).match


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
    head = _head(element)
    if head is None:
        raise RecordUnreadable
    created_at = int(head[1])
    start = head.end()
    middle = start + int(head[3])
    end = middle + int(head[4])
    metadata, attachments = element[start:middle] or _NO_METADATA, element[middle:end]
    is_whole = metadata[:1] + metadata[-1:] == b"{}" and attachments[:1] + attachments[-1:] in (
        b"",
        b"[]",
    )
    if not is_whole or end > len(element) or created_at > LATEST_MS:
        raise RecordUnreadable
    try:
        content = element[end:].decode()
    except ValueError:
        raise RecordUnreadable from None
    is_agent = head[2] == b"a"
    return Message(
        id=unpack_id(head[5]),
        content=content,
        author_id=agent_id if is_agent else user_id,
        is_agent=is_agent,
        created_at=created_at,
        metadata=metadata,
        attachments=attachments or None,
    )
