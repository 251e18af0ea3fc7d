"""The events of one user, which a back end follows through all faults."""

import asyncio
import random
from collections import Counter

from chaos.backend import UNKNOWN, BackEnd
from chaos.observations import ExpectedSession
from session_service.api.events import CloudEvent
from session_service.client import EventStream, Reset, SessionServiceError

_LAST = ("session.ended", "session.expired")


class Following:
    """The events of a user from before their session's creation until its last event.

    Now and then it closes its stream, and goes on from the position that it kept, perhaps at
    another address.
    """

    def __init__(self, backend: BackEnd, user: str) -> None:
        self.events: list[CloudEvent] = []
        self.has_reset = False
        self.position: str | None = None
        self.start: str | None = None  # the position before the first event
        self.user = user
        self._backend = backend
        self._has_begun = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def begin(self) -> None:
        """Wait until the first stream is open."""
        await self._has_begun.wait()

    async def finish(self) -> None:
        """Wait for the last event."""
        await self._reading

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        while not (self.events and self.events[-1].type in _LAST):
            service = random.choice(self._backend.services)
            stream = service.events.follow(user_id=self.user, last_event_id=self.position)
            beginning = asyncio.create_task(self._note_the_beginning(stream))
            try:
                async for event in stream:
                    self._backend.observations.statuses["event"] += 1
                    if isinstance(event, CloudEvent):
                        self.events.append(event)
                    else:
                        self._note_reset()
                    if random.random() < 0.1 or event.type in _LAST:
                        break
            except UNKNOWN as error:
                self._backend.refuse("follow", error, is_excused=not self._has_begun.is_set())
                await asyncio.sleep(random.uniform(0.05, 0.2))
            except Exception as error:  # noqa: BLE001 - it is a violation, whatever it is
                self._backend.blame("follow", error)
                return
            finally:
                beginning.cancel()
            self.position = stream.position

    async def _note_the_beginning(self, stream: EventStream) -> None:
        while not self._has_begun.is_set():
            if stream.position is not None:
                self.start = stream.position
                self._has_begun.set()
            await asyncio.sleep(0.005)

    def _note_reset(self) -> None:
        self.has_reset = True
        self._backend.observations.statuses["reset"] += 1

    async def problems(self, session: ExpectedSession, messages: list[str]) -> list[str]:
        """Return what is wrong with the events of a session that is over.

        ``messages`` are the ids of its messages, in order. A problem that starts with ``WRONG``
        is no loss.
        """
        found: list[str] = []
        types = Counter(event.type for event in self.events)
        ids = [event.id for event in self.events]
        if foreign := {event.subject for event in self.events} - {session.id}:
            found.append(f"WRONG: {len(foreign)} more sessions were created for its user")
        if len(ids) != len(set(ids)):
            found.append(f"WRONG: {len(ids) - len(set(ids))} events came twice")
        if types["session.created"] > 1:
            found.append(f"WRONG: it was created {types['session.created']} times")
        if self.has_reset:
            return found
        if self.events[0].type != "session.created":
            found.append(f"its first event is {self.events[0].type}")
        if self.events[-1].type != f"session.{session.state}":
            found.append(
                f"WRONG: it is {session.state}, and its last event is {self.events[-1].type}"
            )
        told = [event.data["messageId"] for event in self.events if event.type == "session.message"]
        if told != messages:
            found.append(f"events of {len(told)} messages, in order, of {len(messages)}")
        again = await self._read_again(session.id)
        if again is not None and again != ids:
            found.append(f"{len(again)} events from the position kept, {len(ids)} before")
        return found

    async def _read_again(self, session_id: str) -> list[str] | None:
        """Return the ids of the events from before the session's creation; None if reset."""

        async def read() -> list[str] | None:
            stream = self._backend.service.events.follow(
                session_id=session_id, last_event_id=self.start
            )
            events = [event async for event in stream]
            return (
                None
                if any(isinstance(event, Reset) for event in events)
                else [event.id for event in events]
            )

        while True:
            ids = await self._backend.call("follow again", read())
            if not isinstance(ids, SessionServiceError):
                return ids
