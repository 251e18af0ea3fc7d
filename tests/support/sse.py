"""A client's side of server-sent events, by the specification's rules."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestClient

EVENTS = "/api/messaging/events"


@dataclass
class Told:
    """An event as it was dispatched."""

    id: str
    name: str
    data: Any

    @property
    def subject(self) -> str:
        return str(self.data["subject"])


class Source:
    """A stream; like an EventSource, but that it does not reconnect by itself."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""
        self.retry = 0
        self.comments: list[str] = []
        self.positions = 0  # openings and heartbeats

    async def next(self, seconds: float = 10) -> Told | None:
        """The next event; None at the end of the stream."""
        async with asyncio.timeout(seconds):
            name, data = "", ""
            while line := (await self.answer.content.readline()).decode():
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
                            return Told(self.last_id, name, json.loads(data))
                        name = ""
        return None

    async def take(self, count: int) -> list[Told]:
        """The next events, so many."""
        told = [await self.next() for _ in range(count)]
        assert None not in told, f"it ended: {told}"
        return [each for each in told if each]

    async def rest(self) -> list[Told]:
        """All events until the stream ends."""
        told = []
        while each := await self.next():
            told.append(each)
        return told


async def follow(
    client: ClientSession | TestClient[Any, Any], path: str, last_id: str = "", **query: Any
) -> Source:
    """Open a stream."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    answer = await client.get(path, params=query, headers=headers)
    assert answer.status == 200, await answer.text()
    assert answer.headers["Content-Type"] == "text/event-stream"
    return Source(answer)
