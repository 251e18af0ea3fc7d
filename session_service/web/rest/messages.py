"""Messages of sessions, live or over: their handlers and routes."""

from session_service.api.messages import (
    ConversationErased,
    MessagePage,
    MessageSent,
    ReadHistory,
    SendMessage,
)
from session_service.domain.errors import (
    ConversationNotFound,
    RecordUnreadable,
    StoreUnavailable,
    TooManyMessages,
    ValidationFailed,
)
from session_service.web.http.decoding import moment
from session_service.web.http.message_input import message_of
from session_service.web.http.response import Answer, encode
from session_service.web.http.state import AppState
from session_service.web.rest.route import MESSAGING, Route
from session_service.web.rest.sessions import SESSION, SESSION_ERRORS

_CONVERSATION = MESSAGING + "/channels/{channelId}/messages"
_ERASED = encode(ConversationErased("Conversation erased successfully"))


async def send_session_message(service: AppState, session_id: str, given: SendMessage) -> Answer:
    """Store a message, which counts as activity."""
    return Answer(
        201, encode(MessageSent.of(*await service.repository.send(session_id, message_of(given))))
    )


async def get_session_messages(service: AppState, session_id: str, given: ReadHistory) -> Answer:
    """Read a conversation, newest first."""
    history = await service.repository.history(
        session_id,
        limit=given.limit,
        before=moment(given.before, "before", up=True),
        after=moment(given.after, "after", up=False),
    )
    return Answer(200, encode(MessagePage.of(history)))


async def read_kept_history(service: AppState, session_id: str, given: ReadHistory) -> Answer:
    """Read a conversation whose session is over, newest first."""
    history = await service.repository.kept_history(
        session_id,
        limit=given.limit,
        before=moment(given.before, "before", up=True),
        after=moment(given.after, "after", up=False),
    )
    return Answer(200, encode(MessagePage.of(history)))


async def erase_history(service: AppState, session_id: str) -> Answer:
    """Erase a conversation whose session is over."""
    await service.repository.erase_history(session_id)
    return Answer(200, _ERASED)


ROUTES = (
    Route(
        "POST",
        f"{SESSION}/messages",
        send_session_message,
        "Send Message",
        "Store a message, which counts as activity",
        201,
        MessageSent,
        "The message, and the session after it",
        (*SESSION_ERRORS, TooManyMessages),
        body=SendMessage,
        is_atomic=True,
    ),
    Route(
        "GET",
        f"{SESSION}/messages",
        get_session_messages,
        "Get Messages",
        "Read a conversation, newest first. before and after are exclusive and can be combined;"
        " after alone reads the messages that follow it directly",
        200,
        MessagePage,
        "A page of messages",
        (ValidationFailed, *SESSION_ERRORS),
        query=ReadHistory,
    ),
    Route(
        "GET",
        _CONVERSATION,
        read_kept_history,
        "Get Kept Messages",
        "Read the conversation of a session that has ended or run out, where and as long as the"
        " service keeps it; of one that lives, the session has it",
        200,
        MessagePage,
        "A page of messages",
        (ValidationFailed, ConversationNotFound, RecordUnreadable, StoreUnavailable),
        query=ReadHistory,
    ),
    Route(
        "DELETE",
        _CONVERSATION,
        erase_history,
        "Erase Messages",
        "Erase the conversation of a session that has ended or run out, at once",
        200,
        ConversationErased,
        "Conversation erased",
        (ConversationNotFound, StoreUnavailable),
        is_atomic=True,
    ),
)
