"""What Socket.IO clients send and receive: the published socket managers' names and shapes.

A message that a client sends, of type 2:

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

# By the names of SendMessage, the names that clients of the socket use.
_NAMES = {"content": "message", "authorId": "senderId"}
# What the sender says about a message beside it, by the name under which its metadata keeps it:
# so a broadcast from any node, and the history, have it too.
_KEPT = {"user_display_name": "senderName", "source": "source"}
_NAMES_OF_USERS = ("user_display_name", "senderName")
_NAMES_OF_AGENTS = ("agentName", "agent_name", "senderName")


class Sent(NamedTuple):
    """A message as a client sent it."""

    session_id: str
    message: SendMessage
    client_message_id: str | None  # the client's own id of it


def session_id_of(given: object) -> str:
    """Return the session that a client names: as any of its names, or by its id alone.

    Raises ValidationFailed.
    """
    if isinstance(given, dict):
        given = given.get("channelId") or given.get("roomId") or given.get("sessionId")
    if not isinstance(given, str):
        raise ValidationFailed("channelId", "is required: it must be the id of a session")
    return given.lower()


def read_message(payload: object, decoder: RequestDecoder) -> Sent:
    """Read a message, by the rules of ``POST …/messages``; raises ServiceError.

    An error may name a field as SendMessage does: see ``renamed``.
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
    given = {name: value for name, value in request.items() if value is not None}
    return Sent(session_id, decoder.body(_encoded(given)), client_message_id)


def renamed(error: ValidationFailed) -> ValidationFailed:
    """Return an error of SendMessage that names the field as clients of the socket do."""
    field = error.details
    if field not in _NAMES:
        return error
    return ValidationFailed(_NAMES[field], str(error).removeprefix(field).lstrip())


def acknowledged(sent: Sent, message: Message) -> dict[str, Any]:
    """Return the event ``messageAck``: the message is stored."""
    return {
        "clientMessageId": sent.client_message_id,
        "messageId": message.id,
        "status": "received_by_server_and_processing",  # the published server's word
        "createdAt": message.created_at,
        **names_of(sent.session_id),
    }


def joined(session: Session) -> dict[str, Any]:
    """Return the events ``channel_joined`` and ``room_joined``."""
    return {
        "message": f"Joined channel {session.id}",
        "agentId": session.agent_id,
        **names_of(session.id),
    }


def broadcast(message: Message, session_id: str) -> dict[str, Any]:
    """Return the event ``messageBroadcast``."""
    metadata = msgspec.json.decode(message.metadata)
    names = _NAMES_OF_AGENTS if message.is_agent else _NAMES_OF_USERS
    otherwise = ("Agent", "agent_response") if message.is_agent else ("User", "user")
    shown = {
        "id": message.id,
        "senderId": message.author_id,
        "senderName": _first_text(metadata, names) or otherwise[0],
        "isAgent": message.is_agent,
        "text": message.content,
        "createdAt": message.created_at,
        "source": _first_text(metadata, ("source",)) or otherwise[1],
        "metadata": metadata,
        **names_of(session_id),
    }
    if message.attachments is not None:
        shown["attachments"] = msgspec.json.decode(message.attachments)
    return shown


def names_of(session_id: str) -> dict[str, Any]:
    """Return a session's id by each of its names."""
    return {"sessionId": session_id, "roomId": session_id, "channelId": session_id}


def _encoded(request: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(request)
    except (UnicodeEncodeError, RecursionError):  # half a surrogate pair; nested without end
        raise InvalidJson("It has half a character, or is nested too deeply.") from None


def _with_sender(payload: dict[str, Any]) -> Any:
    """Return the metadata with what the payload says about the sender; metadata's own wins."""
    metadata = payload.get("metadata")
    said = {kept: _text(payload, (name,), SENDER_CHARACTERS) for kept, name in _KEPT.items()}
    said = {name: text for name, text in said.items() if text is not None}
    if not said or not isinstance(metadata, dict | None):
        return metadata
    return {**said, **(metadata or {})}


def _text(payload: dict[str, Any], names: tuple[str, ...], longest: int) -> str | None:
    """Return the first of these members that is there; raises ValidationFailed."""
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
