"""The events that Socket.IO clients send and receive, with the names of the published clients.

An example of a message that a client sends, of type 2:

    {"channelId": "<session id>", "senderId": "<the session's userId or agentId>",
     "message": "Hello", "messageId": "<the client's own id of it>", "senderName": "Ada",
     "source": "client_chat", "metadata": {}, "attachments": []}
"""

from typing import Any, NamedTuple

import msgspec

from session_service.api.messages import SendMessage
from session_service.domain.budgets import CLIENT_MESSAGE_ID_CHARACTERS, SENDER_CHARACTERS
from session_service.domain.errors import ValidationFailed
from session_service.domain.messages import Message
from session_service.domain.sessions import Session
from session_service.web.http.decoding import RequestDecoder
from session_service.web.http.errors import InvalidJson

# The names of SendMessage's fields in Socket.IO.
_NAMES = {"content": "message", "authorId": "senderId"}
# Members of a message that are stored in its metadata, by their name there. So they are in the
# history, and in the broadcast of every node.
_STORED_MEMBERS = {"user_display_name": "senderName", "source": "source"}
_NAMES_OF_USERS = ("user_display_name", "senderName")
_NAMES_OF_AGENTS = ("agentName", "agent_name", "senderName")


class Sent(NamedTuple):
    """A message as a client sent it."""

    session_id: str
    message: SendMessage
    client_message_id: str | None  # the client's own id of it


def session_id_of(payload: object) -> str:
    """Return the session id in a payload; raises ValidationFailed.

    The payload is the id itself, or an object such as ``{"channelId": "<session id>"}``.
    """
    if isinstance(payload, dict):
        payload = payload.get("channelId") or payload.get("roomId") or payload.get("sessionId")
    if not isinstance(payload, str):
        raise ValidationFailed("channelId", "is required: it must be the id of a session")
    return payload.lower()


def read_message(payload: object, decoder: RequestDecoder) -> Sent:
    """Return the message in a payload, by the rules of ``POST …/messages``; raises ServiceError.

    An error may have the name of a field of SendMessage: see ``with_socket_names``.
    """
    if not isinstance(payload, dict):
        raise ValidationFailed("payload", "is required: it must be an object with the message")
    session_id = session_id_of(payload)
    client_message_id = _text(
        payload, ("clientMessageId", "messageId"), CLIENT_MESSAGE_ID_CHARACTERS
    )
    request = {
        "content": payload.get("message"),
        "authorId": payload.get("senderId"),
        "metadata": _with_sender(payload),
        "attachments": payload.get("attachments"),
    }
    present = {name: value for name, value in request.items() if value is not None}
    return Sent(session_id, decoder.body(_encoded(present)), client_message_id)


def with_socket_names(error: ValidationFailed) -> ValidationFailed:
    """Return an error of SendMessage with the name that its field has in Socket.IO."""
    field = error.details
    if field not in _NAMES:
        return error
    return ValidationFailed(_NAMES[field], str(error).removeprefix(field).lstrip())


def acknowledged(sent: Sent, message: Message) -> dict[str, Any]:
    """Return the data of the event ``messageAck``: the message is stored."""
    return {
        "clientMessageId": sent.client_message_id,
        "messageId": message.id,
        "status": "received_by_server_and_processing",  # the published server's word
        "createdAt": message.created_at,
        **names_of(sent.session_id),
    }


def joined(session: Session) -> dict[str, Any]:
    """Return the data of the events ``channel_joined`` and ``room_joined``."""
    return {
        "message": f"Joined channel {session.id}",
        "agentId": session.agent_id,
        **names_of(session.id),
    }


def broadcast(message: Message, session_id: str) -> dict[str, Any]:
    """Return the data of the event ``messageBroadcast``."""
    metadata = msgspec.json.decode(message.metadata)
    names = _NAMES_OF_AGENTS if message.is_agent else _NAMES_OF_USERS
    default_name, default_source = (
        ("Agent", "agent_response") if message.is_agent else ("User", "user")
    )
    event = {
        "id": message.id,
        "senderId": message.author_id,
        "senderName": _first_text(metadata, names) or default_name,
        "isAgent": message.is_agent,
        "text": message.content,
        "createdAt": message.created_at,
        "source": _first_text(metadata, ("source",)) or default_source,
        "metadata": metadata,
        **names_of(session_id),
    }
    if message.attachments is not None:
        event["attachments"] = msgspec.json.decode(message.attachments)
    return event


def names_of(session_id: str) -> dict[str, Any]:
    """Return a session's id under each of its names in Socket.IO."""
    return {"sessionId": session_id, "roomId": session_id, "channelId": session_id}


def _encoded(request: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(request)
    except (UnicodeEncodeError, RecursionError):  # half a surrogate pair; nested without end
        raise InvalidJson("It has half a character, or is nested too deeply.") from None


def _with_sender(payload: dict[str, Any]) -> Any:
    """Return the metadata with the payload's members about the sender; its own take precedence."""
    metadata = payload.get("metadata")
    sender = {
        stored: text
        for stored, name in _STORED_MEMBERS.items()
        if (text := _text(payload, (name,), SENDER_CHARACTERS)) is not None
    }
    if not sender or not isinstance(metadata, dict | None):
        return metadata
    return {**sender, **(metadata or {})}


def _text(payload: dict[str, Any], names: tuple[str, ...], longest: int) -> str | None:
    """Return the first of these members that is present, or None; raises ValidationFailed."""
    for name in names:
        value = payload.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or len(value) > longest:
            raise ValidationFailed(name, f"must be a string of at most {longest} characters")
        return value
    return None


def _first_text(metadata: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((text for name in names if isinstance(text := metadata.get(name), str)), None)
