"""Conversations: pages of messages, and conversations retained after their session is over."""

from typing import NamedTuple

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.errors import ConversationNotFound, RecordUnreadable
from session_service.domain.ids import shard_of_session
from session_service.domain.messages import History
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import KeySet
from session_service.store.client.script import NO_ARGUMENTS
from session_service.store.keys import Keys
from session_service.store.records import unpack_message
from session_service.store.scripts.conversations import ERASE, RETAINED, Entries, PageArguments


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

    def arguments(self) -> tuple[str, str, bool, int, int]:
        """Return the fields of PageArguments."""
        return (
            "-" if self.after is None else str(self.after + 1),
            "+" if self.before is None else str(max(0, self.before - 1)),
            self._is_forward,
            self.limit,
            PAGE_BYTES,
        )

    def page(self, more: int, entries: Entries, agent_id: str, user_id: str) -> History:
        """Return the page for the entries that lua/page.lua replies with."""
        messages = [unpack_message(entry, fields, agent_id, user_id) for entry, fields in entries]
        if self._is_forward:
            messages.reverse()
        return History(messages=messages, has_more=bool(more))


async def read(
    executor: ScriptExecutor, keys: Keys, session_id: str, selected: MessageRange
) -> History:
    """Read a retained conversation; raises ConversationNotFound, RecordUnreadable."""
    arguments = PageArguments(*selected.arguments())
    page = await executor.run(RETAINED, _keys_of(keys, session_id), arguments)
    if page is None:
        raise ConversationNotFound
    try:
        agent_id, user_id = page.participants.decode().split(" ")
    except ValueError:
        raise RecordUnreadable from None
    return selected.page(page.more, page.entries, agent_id, user_id)


async def erase(executor: ScriptExecutor, keys: Keys, session_id: str) -> None:
    """Erase a retained conversation; raises ConversationNotFound."""
    if not await executor.run(ERASE, _keys_of(keys, session_id), NO_ARGUMENTS):
        raise ConversationNotFound


def _keys_of(keys: Keys, session_id: str) -> KeySet:
    session_id = session_id.lower()
    shard = shard_of_session(session_id)
    if shard is None:
        raise ConversationNotFound
    return keys.and_more(keys.one("retained", shard, session_id), participants=session_id)
