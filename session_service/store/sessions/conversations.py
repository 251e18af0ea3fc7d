"""Conversations: a page of one, and those that are kept when their session is over."""

from typing import Any, NamedTuple

from session_service.domain.budgets import PAGE_BYTES
from session_service.domain.errors import ConversationNotFound, RecordUnreadable
from session_service.domain.ids import shard_of_session
from session_service.domain.messages import History
from session_service.store import scripts
from session_service.store.client.executor import Argument, ScriptExecutor
from session_service.store.keys import Keys, KeySet
from session_service.store.records import unpack_message


class Range(NamedTuple):
    """The messages to read: the newest of the range, at most ``limit`` and ``PAGE_BYTES``.

    ``before`` and ``after`` are exclusive epoch milliseconds. With ``after`` alone, the messages
    that follow it directly are read: ``Range(50, after=1768473045123)`` reads the 50 after that.
    """

    limit: int
    before: int | None = None
    after: int | None = None

    @property
    def _is_forward(self) -> bool:
        return self.after is not None and self.before is None

    def arguments(self) -> tuple[Argument, ...]:
        """Return the arguments of lua/page.lua."""
        return (
            "-" if self.after is None else self.after + 1,
            "+" if self.before is None else max(0, self.before - 1),
            "oldest" if self._is_forward else "newest",
            self.limit,
            PAGE_BYTES,
        )

    def page(self, more: int, entries: list[Any], agent_id: str, user_id: str) -> History:
        """Return the page that lua/page.lua has read."""
        messages = [unpack_message(entry, fields, agent_id, user_id) for entry, fields in entries]
        if self._is_forward:
            messages.reverse()
        return History(messages=messages, has_more=bool(more))


async def read(executor: ScriptExecutor, keys: Keys, session_id: str, wanted: Range) -> History:
    """Read a conversation that is kept; raises ConversationNotFound, RecordUnreadable."""
    reply = await executor.run(scripts.KEPT, _keys_of(keys, session_id), wanted.arguments())
    if reply is None:
        raise ConversationNotFound
    parties, more, entries = reply
    try:
        agent_id, user_id = parties.decode().split(" ")
    except ValueError:
        raise RecordUnreadable from None
    return wanted.page(more, entries, agent_id, user_id)


async def erase(executor: ScriptExecutor, keys: Keys, session_id: str) -> None:
    """Erase a conversation that is kept; raises ConversationNotFound if none is."""
    if not await executor.run(scripts.ERASE, _keys_of(keys, session_id), ()):
        raise ConversationNotFound


def _keys_of(keys: Keys, session_id: str) -> KeySet:
    session_id = session_id.lower()
    shard = shard_of_session(session_id)
    if shard is None:
        raise ConversationNotFound
    return keys.and_more(keys.one("kept", shard, session_id), parties=session_id)
