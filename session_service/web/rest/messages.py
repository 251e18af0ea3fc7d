"""Handlers and routes of messages: in live sessions, and retained after a session is over."""

from session_service.api.messages import (
    ConversationErased,
    MessagePage,
    MessageSent,
    ReadHistory,
    SendMessage,
)
from session_service.audit import AuditEvent
from session_service.domain.credentials import Permission
from session_service.domain.errors import (
    ConversationNotFound,
    RecordUnreadable,
    StoreUnavailable,
    TooManyMessages,
    ValidationFailed,
)
from session_service.web.http.context import RequestContext
from session_service.web.http.fields import message_of, parse_timestamp
from session_service.web.http.response import JsonResponse, encode
from session_service.web.rest.route import MESSAGING, Route, Tag
from session_service.web.rest.sessions import SESSION, SESSION_ERRORS

_CONVERSATION = MESSAGING + "/channels/{channelId}/messages"
_CHANNEL_ID = {"channelId": "The session's ID: the two names mean the same"}
_ERASED = encode(ConversationErased("Conversation erased successfully"))


async def send_session_message(
    context: RequestContext, session_id: str, body: SendMessage
) -> JsonResponse:
    """Send a message to a session.

    Counts as activity.
    """
    return JsonResponse(
        201, encode(MessageSent.of(*await context.sessions.send(session_id, message_of(body))))
    )


async def get_session_messages(
    context: RequestContext, session_id: str, query: ReadHistory
) -> JsonResponse:
    """Read a conversation, newest message first.

    ``before`` and ``after`` are exclusive and can be combined. With ``after`` alone, the page has
    the messages that follow it directly.
    """
    history = await context.sessions.history(
        session_id,
        limit=query.limit,
        before=parse_timestamp(query.before, "before", up=True),
        after=parse_timestamp(query.after, "after", up=False),
    )
    return JsonResponse(200, encode(MessagePage.of(history)))


async def read_kept_history(
    context: RequestContext, session_id: str, query: ReadHistory
) -> JsonResponse:
    """Read the conversation of a session that has ended or expired, newest message first.

    It is available for as long as the service is set to retain it. While the session is live, read
    its messages at ``/sessions/{sessionId}/messages``.
    """
    history = await context.sessions.retained_history(
        session_id,
        limit=query.limit,
        before=parse_timestamp(query.before, "before", up=True),
        after=parse_timestamp(query.after, "after", up=False),
    )
    return JsonResponse(200, encode(MessagePage.of(history)))


async def erase_history(context: RequestContext, session_id: str) -> JsonResponse:
    """Erase the conversation of a session that has ended or expired, at once."""
    with context.audited(AuditEvent.HISTORY_ERASED, session=session_id):
        await context.sessions.erase_history(session_id)
    return JsonResponse(200, _ERASED)


ROUTES = (
    Route(
        method="POST",
        path=f"{SESSION}/messages",
        handler=send_session_message,
        tag=Tag.MESSAGING,
        access=Permission.MESSAGES_WRITE,
        body=SendMessage,
        status=201,
        response=MessageSent,
        success="The message, and the session after it",
        errors=(*SESSION_ERRORS, TooManyMessages),
        is_atomic=True,
    ),
    Route(
        method="GET",
        path=f"{SESSION}/messages",
        handler=get_session_messages,
        tag=Tag.MESSAGING,
        access=Permission.MESSAGES_READ,
        query=ReadHistory,
        response=MessagePage,
        success="A page of messages",
        errors=(ValidationFailed, *SESSION_ERRORS),
    ),
    Route(
        method="GET",
        path=_CONVERSATION,
        handler=read_kept_history,
        id_descriptions=_CHANNEL_ID,
        tag=Tag.MESSAGING,
        access=Permission.MESSAGES_READ,
        query=ReadHistory,
        response=MessagePage,
        success="A page of messages",
        errors=(ValidationFailed, ConversationNotFound, RecordUnreadable, StoreUnavailable),
    ),
    Route(
        method="DELETE",
        path=_CONVERSATION,
        handler=erase_history,
        id_descriptions=_CHANNEL_ID,
        tag=Tag.MESSAGING,
        access=Permission.HISTORY_ERASE,
        response=ConversationErased,
        success="Conversation erased",
        errors=(ConversationNotFound, StoreUnavailable),
        is_atomic=True,
    ),
)
