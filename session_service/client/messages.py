"""The operations on messages, in live sessions and in kept conversations."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec import UNSET

from session_service.api.messages import (
    ConversationErased,
    MessageInfo,
    MessagePage,
    MessageSent,
    ReadHistory,
    SendMessage,
)
from session_service.client.paging import Pages
from session_service.client.resource import Resource
from session_service.client.transport import operation, path_of

Moment = int | str  # epoch milliseconds, or ISO 8601


class _Conversations(Resource):
    """Reads conversations below one path of the API."""

    _collection = ""

    def list(
        self,
        session_id: str,
        *,
        before: Moment | None = None,
        after: Moment | None = None,
        limit: int = 50,
        timeout: float | None = None,
    ) -> Pages[MessagePage, MessageInfo, Moment]:
        """Return the messages of a conversation, from pages of up to ``limit``.

        They come newest first, and those before the time ``before``. With ``after``, those after
        that time come oldest first; ``after=0`` is the whole conversation in its order.
        """
        if before is not None and after is not None:
            raise ValueError("before and after are both set; a page with both is read by read()")
        is_forward = after is not None

        async def read(cursor: Moment | None) -> MessagePage:
            before, after = (None, cursor) if is_forward else (cursor, None)
            return await self._read(session_id, before, after, limit, timeout)

        def items(page: MessagePage) -> Iterable[MessageInfo]:
            return reversed(page.messages) if is_forward else page.messages

        def following(page: MessagePage) -> Moment | None:
            if not page.has_more or page.cursors is UNSET:
                return None
            return page.cursors.after if is_forward else page.cursors.before

        return Pages(read, items, following, after if is_forward else before)

    async def _read(
        self,
        session_id: str,
        before: Moment | None,
        after: Moment | None,
        limit: int,
        timeout: float | None,
    ) -> MessagePage:
        query = ReadHistory(
            limit=limit,
            before=UNSET if before is None else str(before),
            after=UNSET if after is None else str(after),
        )
        path = path_of(self._collection, session_id, "messages")
        return await self._transport.call("GET", path, MessagePage, query=query, timeout=timeout)


class Messages(_Conversations):
    """``service.messages``: send messages, and read the conversations of live sessions."""

    _collection = "sessions"

    @operation("sendSessionMessage")
    async def send(
        self,
        session_id: str,
        content: str,
        *,
        author_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        attachments: Sequence[dict[str, Any]] | None = None,
        transport: Literal["http", "sse", "websocket"] | None = None,
        mode: Literal["sync", "stream", "websocket"] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> MessageSent:
        """Send a message by the user, or by the agent if ``author_id`` is the agent's id."""
        body = SendMessage(
            content=content,
            author_id=author_id,
            metadata=metadata,
            attachments=None if attachments is None else [*attachments],
            transport=transport,
            mode=mode,
        )
        return await self._transport.call(
            "POST",
            path_of("sessions", session_id, "messages"),
            MessageSent,
            body=body,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )

    @operation("getSessionMessages")
    async def read(
        self,
        session_id: str,
        *,
        before: Moment | None = None,
        after: Moment | None = None,
        limit: int = 50,
        timeout: float | None = None,
    ) -> MessagePage:
        """Return one page of a conversation, newest first."""
        return await self._read(session_id, before, after, limit, timeout)


class Channels(_Conversations):
    """``service.channels``: the conversations of sessions that are over, if they are kept."""

    _collection = "channels"

    @operation("readKeptHistory")
    async def read(
        self,
        channel_id: str,
        *,
        before: Moment | None = None,
        after: Moment | None = None,
        limit: int = 50,
        timeout: float | None = None,
    ) -> MessagePage:
        """Return one page of a kept conversation, newest first."""
        return await self._read(channel_id, before, after, limit, timeout)

    @operation("eraseHistory")
    async def erase(
        self,
        channel_id: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> ConversationErased:
        """Erase a kept conversation at once."""
        return await self._transport.call(
            "DELETE",
            path_of("channels", channel_id, "messages"),
            ConversationErased,
            has_key=True,
            idempotency_key=idempotency_key,
            timeout=timeout,
        )
