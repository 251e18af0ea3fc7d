"""A client of server-sent events that follows the rules of the specification."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestClient

EVENTS = "/api/messaging/events"


@dataclass
class ReceivedEvent:
    """An event as an EventSource would dispatch it."""

    id: str
    name: str
    data: Any

    @property
    def subject(self) -> str:
        return str(self.data["subject"])


class Source:
    """A stream, like an EventSource that does not reconnect by itself."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.last_id = ""
        self.retry = 0
        self.comments: list[str] = []
        self.positions = 0  # openings and heartbeats

    async def next(self, seconds: float = 10) -> ReceivedEvent | None:
        """Return the next event, or None at the end of the stream; fail after ``seconds``."""
        async with asyncio.timeout(seconds):
            name, data = "", ""
            while line := (await self.response.content.readline()).decode():
                assert line.endswith("\n")
                field, _, value = line[:-1].partition(":")
                value = value.removeprefix(" ")
                match field:
                    case "id":
                        self.last_id = value
                    case "event":
                        name = value
                    case "data":
                        data += value
                    case "retry":
                        self.retry = int(value)
                    case "" if line != "\n":
                        self.comments.append(value)
                    case "":
                        if name == "position":
                            assert json.loads(data) == {}
                            self.positions += 1
                            name, data = "", ""
                        elif data:
                            return ReceivedEvent(self.last_id, name, json.loads(data))
                        name = ""
        return None

    async def take(self, count: int) -> list[ReceivedEvent]:
        """Return the next ``count`` events; fail if the stream ends before that."""
        events = [await self.next() for _ in range(count)]
        assert None not in events, f"the stream ended: {events}"
        return [event for event in events if event]

    async def rest(self) -> list[ReceivedEvent]:
        """Return all events until the stream ends."""
        events = []
        while event := await self.next():
            events.append(event)
        return events


async def follow(
    client: ClientSession | TestClient[Any, Any], path: str, last_id: str = "", **query: Any
) -> Source:
    """Open a stream, after the event ``last_id`` if it is not empty."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    response = await client.get(path, params=query, headers=headers)
    assert response.status == 200, await response.text()
    assert response.headers["Content-Type"] == "text/event-stream"
    return Source(response)
