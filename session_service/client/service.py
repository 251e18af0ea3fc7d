"""The client of one service."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self

from session_service.api.sessions import TimeoutSettings
from session_service.client import memory
from session_service.client.credentials import Token, find_credential, find_url
from session_service.client.events import Events
from session_service.client.health import Health
from session_service.client.live_session import Callback, LiveSession, live_session
from session_service.client.messages import Channels, Messages
from session_service.client.sessions import Sessions
from session_service.client.tokens import Tokens
from session_service.client.transport import Transport
from session_service.client.webhooks import Webhooks

DEFAULT_TIMEOUT = 10.0
DEFAULT_RETRIES = 2


class SessionService:
    """A service, as its callers see it.

    ::

        async with SessionService("http://localhost:3000", api_key="ssk_…") as service:
            created = await service.sessions.create(user_id, agent_id)
            await service.messages.send(created.session_id, "Hello", timeout=2.0)

    ``token`` is a bearer token in place of an API key, or a function that returns one for each
    request. The environment has what is not given: SESSION_SERVICE_URL, and SESSION_SERVICE_KEY or
    SESSION_SERVICE_KEY_FILE. ``timeout`` is in seconds, for each attempt. Make one client for each
    event loop, and share it between tasks.

    ``memory://`` is a service of its own in this process, for tests: it begins with ``async with``,
    and its data end with it. Raises ImportError without the extra ``memory``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        token: Token | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = DEFAULT_RETRIES,
    ) -> None:
        self._transport = Transport(
            find_url(url),
            find_credential(api_key, token),
            timeout=timeout,
            max_retries=max_retries,
        )
        if self.url == memory.URL:
            memory.check_extra()
        self._memory = AsyncExitStack()  # the service in this process, if it is one
        self.sessions = Sessions(self._transport)
        self.messages = Messages(self._transport)
        self.channels = Channels(self._transport)
        self.events = Events(self._transport)
        self.tokens = Tokens(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.health = Health(self._transport)

    def __repr__(self) -> str:
        return f"SessionService({self._transport.url!r})"

    @property
    def url(self) -> str:
        """The URL of the service; with ``memory://``, that on which other clients reach it."""
        return self._transport.url

    async def __aenter__(self) -> Self:
        if self.url == memory.URL:
            self._transport.url = await self._memory.enter_async_context(memory.serve())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def session(
        self,
        user_id: str,
        agent_id: str,
        *,
        metadata: dict[str, Any] | None = None,
        timeout_config: TimeoutSettings | None = None,
        get_or_create: bool = True,
        end_at_exit: bool = False,
        on_expiring: Callback | None = None,
        on_over: Callback | None = None,
    ) -> AbstractAsyncContextManager[LiveSession]:
        """Keep a session alive during a block, and leave it then, or end it with ``end_at_exit``.

        ::

            async with service.session(user_id, agent_id, on_expiring=warn) as session:
                await session.send("Hello")

        It is the user's newest live session with the agent; without one, or without
        ``get_or_create``, it is a new one with ``metadata`` and ``timeout_config``.

        ``on_expiring`` is called when the warning threshold is reached and heartbeats do not renew
        the session, because it has no ``auto_renew`` or reaches its maximum duration; and again
        after a renewal. ``on_over`` is called when a heartbeat finds that the session is over. Both
        get the LiveSession, and may be async; an exception of theirs is logged, and one that
        still runs at the end of the block is cancelled.
        """
        return live_session(
            (self.sessions, self.messages, self.events),
            user_id,
            agent_id,
            metadata=metadata,
            timeout_config=timeout_config,
            get_or_create=get_or_create,
            end_at_exit=end_at_exit,
            on_expiring=on_expiring,
            on_over=on_over,
            timeout=self._transport.timeout,
        )

    async def close(self) -> None:
        """Close the connections, and the service if it is one in memory."""
        await self._transport.close()
        await self._memory.aclose()
