"""Conversations: pages of messages, and conversations retained after their session is over."""

from typing import NamedTuple

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.errors import ConversationNotFound, RecordUnreadable
from session_service.domain.ids import shard_of_session
from session_service.domain.messages import History
from session_service.store.client.protocol import KeySet
from session_service.store.keys import Keys
from session_service.store.messages import unpack_message
from session_service.store.records import ID_LENGTH, unpack_id
from session_service.store.scripts.conversations import (
    ERASE,
    RETAINED,
    EraseArguments,
    RetainedArguments,
)
from session_service.store.sessions.scope import Scope


class MessageRange(NamedTuple):
    """The messages to read: the newest in the range, at most ``limit`` and ``PAGE_BYTES``.

    ``before`` and ``after`` are exclusive epoch milliseconds. With ``after`` alone, the messages
    that follow it directly are read: ``MessageRange(50, after=1768473045123)`` reads the first
    50 messages after that time.
    """

    limit: int
    before: int | None = None
    after: int | None = None

    @property
    def _is_forward(self) -> bool:
        return self.after is not None and self.before is None

    def arguments(self) -> tuple[int | None, int | None, bool, int, int]:
        """Return the fields of PageArguments."""
        return self.after, self.before, self._is_forward, self.limit, PAGE_BYTES

    def page(self, more: int, elements: list[bytes], agent_id: str, user_id: str) -> History:
        """Return the page for the elements of a conversation that lua/page.lua replies with."""
        messages = [unpack_message(element, agent_id, user_id) for element in elements]
        if self._is_forward:
            messages.reverse()
        return History(messages=messages, has_more=bool(more))


async def read(scope: Scope, keys: Keys, session_id: str, selected: MessageRange) -> History:
    """Read a retained conversation; raises ConversationNotFound, RecordUnreadable."""
    arguments = RetainedArguments(*selected.arguments(), scope.viewer)
    page = await scope.executor.run(RETAINED, _keys_of(keys, session_id), arguments)
    if page is None:
        raise ConversationNotFound
    agent, user = page.participants[:ID_LENGTH], page.participants[ID_LENGTH:]
    if len(user) != ID_LENGTH:
        raise RecordUnreadable
    return selected.page(page.more, page.messages, unpack_id(agent), unpack_id(user))


async def erase(scope: Scope, keys: Keys, session_id: str) -> None:
    """Erase a retained conversation; raises ConversationNotFound."""
    if not await scope.executor.run(
        ERASE, _keys_of(keys, session_id), EraseArguments(scope.viewer)
    ):
        raise ConversationNotFound


def _keys_of(keys: Keys, session_id: str) -> KeySet:
    session_id = session_id.lower()
    shard = shard_of_session(session_id)
    if shard is None:
        raise ConversationNotFound
    return keys.and_more(keys.one("retained", shard, session_id), participants=session_id)
