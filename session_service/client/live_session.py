"""A session that is kept alive while a block of code uses it."""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, TypeGuard

from session_service.api.messages import MessageInfo, MessagePage, MessageSent
from session_service.api.sessions import SessionInfo, TimeoutSettings
from session_service.client.errors import (
    ApiError,
    SessionExpired,
    SessionNotFound,
    SessionServiceError,
)
from session_service.client.events import Events, EventStream
from session_service.client.messages import Messages, Moment
from session_service.client.paging import Pages
from session_service.client.retries import delay, passes
from session_service.client.sessions import Sessions
from session_service.domain.timeouts import to_ms
from session_service.domain.times import jitter

_MOST_SECONDS = 300.0  # between heartbeats; so long may an end by another caller go unnoticed
_CLOSE_SECONDS = 1.0  # to the expiry, from which on heartbeats do not come closer together
_SECONDS_LATE = 0.05  # so that a deadline has passed when the service is asked about it

Callback = Callable[["LiveSession"], Any]

log = logging.getLogger(__name__)


@asynccontextmanager
async def live_session(
    resources: tuple[Sessions, Messages, Events],
    user_id: str,
    agent_id: str,
    *,
    metadata: dict[str, Any] | None,
    timeout_config: TimeoutSettings | None,
    get_or_create: bool,
    end_at_exit: bool,
    on_expiring: Callback | None,
    on_over: Callback | None,
    timeout: float,
) -> AsyncGenerator["LiveSession", None]:
    """Create or find a session, and keep it alive until the block ends."""
    sessions = resources[0]
    created = await sessions.create(
        user_id,
        agent_id,
        metadata=metadata,
        timeout_config=timeout_config,
        get_or_create=get_or_create,
    )
    info = await sessions.get(created.session_id)
    session = LiveSession(
        *resources, info, on_expiring=on_expiring, on_over=on_over, timeout=timeout
    )
    has_failed = True
    try:
        yield session
        has_failed = False
    finally:
        await session.leave()
        if end_at_exit:
            try:
                with suppress(SessionNotFound):
                    await session.end()
            except Exception:
                # The error of the block is the one to raise, whatever the end fails with.
                if not has_failed:
                    raise
                log.exception("session %s was not ended", session.id)


class LiveSession:
    """A session of a user with an agent that is kept alive: ``async with service.session(…)``.

    ``info`` is its state at the last heartbeat, change or renewal. ``over`` is the reason once the
    session cannot be kept alive any more: SessionNotFound if another caller ended it,
    SessionExpired, or the refusal of the credential.
    """

    def __init__(
        self,
        sessions: Sessions,
        messages: Messages,
        events: Events,
        info: SessionInfo,
        *,
        on_expiring: Callback | None,
        on_over: Callback | None,
        timeout: float,
    ) -> None:
        self.info = info
        self.over: ApiError | None = None
        self._sessions = sessions
        self._messages = messages
        self._events = events
        self._on_expiring = on_expiring
        self._on_over = on_over
        self._timeout = timeout
        self._known_at = time.monotonic()
        self._warned_for = ""  # the deadline
        self._callbacks: set[asyncio.Task[None]] = set()
        self._heartbeats = asyncio.create_task(self._keep_alive())

    @property
    def id(self) -> str:
        """The id of the session."""
        return self.info.session_id

    async def send(
        self,
        content: str,
        *,
        metadata: dict[str, Any] | None = None,
        attachments: Sequence[dict[str, Any]] | None = None,
        timeout: float | None = None,
    ) -> MessageSent:
        """Send a message by the user."""
        return await self._messages.send(
            self.id, content, metadata=metadata, attachments=attachments, timeout=timeout
        )

    async def reply(
        self,
        content: str,
        *,
        metadata: dict[str, Any] | None = None,
        attachments: Sequence[dict[str, Any]] | None = None,
        timeout: float | None = None,
    ) -> MessageSent:
        """Send a message by the agent."""
        return await self._messages.send(
            self.id,
            content,
            author_id=self.info.agent_id,
            metadata=metadata,
            attachments=attachments,
            timeout=timeout,
        )

    def messages(
        self, *, before: Moment | None = None, after: Moment | None = None, limit: int = 50
    ) -> Pages[MessagePage, MessageInfo, Moment]:
        """Return the messages, newest first; with ``after``, those since then in their order."""
        return self._messages.list(self.id, before=before, after=after, limit=limit)

    def events(self, *, last_event_id: str | None = None) -> EventStream:
        """Follow the events of the session until it is over."""
        return self._events.follow(session_id=self.id, last_event_id=last_event_id)

    async def renew(self) -> SessionInfo:
        """Renew the session, even if it has no ``auto_renew``; raises SessionRenewalFailed."""
        return self._learn(await self._sessions.renew(self.id))

    async def update(self, *, metadata: dict[str, Any]) -> SessionInfo:
        """Merge ``metadata`` into that of the session; None removes a member."""
        return self._learn(await self._sessions.update(self.id, metadata=metadata))

    async def end(self) -> None:
        """Stop the heartbeats, and end the session; raises SessionNotFound if it is over."""
        await _cancel(self._heartbeats)
        await self._sessions.end(self.id)

    async def leave(self) -> None:
        """Stop the heartbeats, and cancel callbacks that still run; the session goes on."""
        await _cancel(self._heartbeats, *self._callbacks)

    async def _keep_alive(self) -> None:
        failures = 0
        self._warn()
        wait = seconds_to_next(self.info)
        while True:
            await asyncio.sleep(wait)
            try:
                self._learn(await self._heartbeat())
            except Exception as error:  # noqa: BLE001 - a function for tokens may raise any
                left = self._seconds_left()
                if _is_over(error, left):
                    self.over = error
                    self._notify(self._on_over)
                    return
                if failures == 0:
                    log.warning("a heartbeat of session %s failed: %s", self.id, error)
                wait = seconds_to_retry(error, failures, left)
                failures += 1
            else:
                failures = 0
                self._warn()
                wait = seconds_to_next(self.info)

    async def _heartbeat(self) -> SessionInfo:
        """Send one heartbeat. If it fails or hangs, there is time for another before the expiry."""
        timeout = min(self._timeout, max(self._seconds_left() / 2, _CLOSE_SECONDS))
        return await self._sessions.heartbeat(self.id, timeout=timeout, max_retries=0)

    def _seconds_left(self) -> float:
        return self.info.time_remaining / 1000 - (time.monotonic() - self._known_at)

    def _learn(self, info: SessionInfo) -> SessionInfo:
        self.info = info
        self._known_at = time.monotonic()
        return info

    def _warn(self) -> None:
        """Call back if the warning threshold is reached, once for each deadline."""
        info = self.info
        if info.is_near_expiration and not is_kept(info) and info.expires_at != self._warned_for:
            self._warned_for = info.expires_at
            self._notify(self._on_expiring)

    def _notify(self, callback: Callback | None) -> None:
        if callback is not None:
            task = asyncio.create_task(self._run(callback))  # heartbeats do not wait for it
            self._callbacks.add(task)
            task.add_done_callback(self._callbacks.discard)

    async def _run(self, callback: Callback) -> None:
        try:
            result = callback(self)
            if inspect.isawaitable(result):
                await result
        except Exception:
            # The callback is the caller's: no error in it must end the heartbeats.
            log.exception("a callback of session %s failed", self.id)


def is_kept(info: SessionInfo) -> bool:
    """Return whether each heartbeat gives the session its whole timeout again.

    The two times are the service's, so the clock of this machine does not matter.
    """
    config = info.timeout_config
    timeout = timedelta(milliseconds=to_ms(config.timeout_minutes))
    left = datetime.fromisoformat(info.expires_at) - datetime.fromisoformat(info.last_activity)
    return config.auto_renew and left >= timeout


def seconds_to_next(info: SessionInfo) -> float:
    """Return the seconds until the next heartbeat.

    For a session that is kept they are a third of its timeout, or half of the time until the
    warning if that is less, but not less than a tenth of the timeout; for example 5 minutes for one
    of 30, because there are no more than that. For another session, a heartbeat comes when the
    warning or the expiry is due, and some before the expiry, because its settings may change.
    """
    config = info.timeout_config
    timeout, threshold = 60 * config.timeout_minutes, 60 * config.warning_threshold_minutes
    interval = min(timeout / 3, max((timeout - threshold) / 2, timeout / 10), _MOST_SECONDS)
    interval *= 0.9 + jitter() / 10  # sessions that began together spread out
    if is_kept(info):
        return interval
    left = info.time_remaining / 1000
    if not info.is_near_expiration:
        due = max(left - threshold, 0.0) + _SECONDS_LATE
    else:
        due = left / 2 if left > 2 * _CLOSE_SECONDS else left + _SECONDS_LATE
    return min(interval, due)


def seconds_to_retry(error: Exception, failures: int, left: float) -> float:
    """Return the seconds until the next heartbeat after one that failed.

    ``left`` are the seconds until the session expires: a heartbeat comes before that, whatever
    ``Retry-After`` says. A refusal, which may be for long, is not met as often as an outage.
    """
    wait = delay(error if isinstance(error, SessionServiceError) else None, failures)
    if isinstance(error, SessionServiceError) and not passes(error):
        wait = _MOST_SECONDS
    return min(wait, max(left / 2, _CLOSE_SECONDS)) if left > 0 else wait


def _is_over(error: Exception, left: float) -> TypeGuard[ApiError]:
    """Return whether there is nothing left to keep alive, as far as this caller can see."""
    if isinstance(error, SessionNotFound | SessionExpired):
        return True
    return isinstance(error, ApiError) and not passes(error) and left <= 0


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    others = [task for task in tasks if task is not asyncio.current_task()]  # it may be a callback
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
