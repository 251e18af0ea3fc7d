"""Two worlds: services whose answers to the same requests are compared (access.md, "Proof").

Each world is a service on keys of its own. Answers are compared after ``World.normal``: ids become
numbers, in the order in which they appear, and times and durations words.
"""

import asyncio
import base64
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from session_service.background.deliveries import deliver_forever
from session_service.composition import Store, open_store
from session_service.domain.ids import SHARDS
from session_service.settings import Settings
from session_service.web.http.limits import RequestLimits
from session_service.web.http.state import AppState
from tests.support.access import KnownCredentials
from tests.support.service import ServiceUnderTest, app_state
from tests.support.sockets import Socket

_SECONDS = 20.0  # for a response, and for the events of a stream
_VARYING = {"date", "x-request-id", "content-length"}

_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
_EVENT_ID = r"\b\d{13}-[0-9a-f]{2}-\d+\b"
_patterns = re.compile(
    rf'(?P<id>{_ID})|(?P<time>{_TIME})|(?P<event>{_EVENT_ID})|"nextCursor":"(?P<cursor>[^"]+)"'
    r'|"(?P<duration>uptime|timeRemaining)":[0-9.]+|(?P<seconds>;t=\d+)|(?P<milliseconds>\b\d{13}\b)'
)


class Answer(NamedTuple):
    """A response: its status, its header fields in lower case, and its body."""

    status: int
    fields: Mapping[str, str]
    text: str


class World:
    """A service, and the names of the ids that have appeared in its answers."""

    def __init__(self, store: Store, state: AppState, access: KnownCredentials, port: int) -> None:
        self.store = store
        self.state = state
        self.access = access
        self.port = port
        self._numbers: dict[str, str] = {}
        self._writers: list[asyncio.StreamWriter] = []
        self._sockets: list[Socket] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, which ends with the world."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    async def open_socket(self, name: str) -> Socket:
        """Open a Socket.IO connection of a caller, which ends with the world."""
        socket = Socket()
        url, transports = f"http://127.0.0.1:{self.port}", ["websocket"]
        await socket.client.connect(url, transports=transports, auth={"apiKey": name})
        self._sockets.append(socket)
        return socket

    async def close(self) -> None:
        """Close all connections."""
        for socket in self._sockets:
            await socket.client.disconnect()
        for writer in self._writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def normal(self, text: str) -> str:
        """Return a text without the ids, times and durations that differ between worlds."""
        return _patterns.sub(self._name, text)

    def _name(self, found: re.Match[str]) -> str:
        if found["id"]:
            return self._number(found[0])
        if found["cursor"]:
            position = base64.urlsafe_b64decode(found["cursor"] + "=" * (-len(found["cursor"]) % 4))
            last = self._number(str(UUID(bytes=position[-16:])))
            return f'"nextCursor":"{position[:1].decode()}, {len(position)} bytes, after {last}"'
        return f"<{found.lastgroup}>"

    def _number(self, id_: str) -> str:
        return self._numbers.setdefault(id_, f"<{len(self._numbers)}>")


@asynccontextmanager
async def open_world(settings: Settings, client: Any = None) -> AsyncIterator[World]:
    """Run a service with access control, whose callers are those of KnownCredentials."""
    async with open_store(settings, client) as store:
        await store.outbox.begin_pasts(SHARDS)
        limits = RequestLimits(users=store.user_limit, keys=store.key_limit)
        has_limits = store.user_limit or store.key_limit
        access = KnownCredentials()
        state = app_state(store, access=access, limits=limits if has_limits else None)
        state.health_reasons += [store.quarantine.reasons]
        server = ServiceUnderTest(state)
        await server.start_server()
        deliveries = asyncio.create_task(deliver_forever(store.webhooks, store.consumer))
        world = World(store, state, access, server.port or 0)
        try:
            yield world
        finally:
            await world.close()
            deliveries.cancel()
            with suppress(asyncio.CancelledError):
                await deliveries
            await server.close()


class Caller:
    """A caller of a world, with one connection: its name is that of a known credential."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.sessions: list[str] = []  # the ids of those it created
        self.cursors: list[str] = []
        self.webhooks: list[str] = []
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: Any = None, fields: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, and return the response."""
        if self._stream is None:
            self._stream = await self.world.connect()
        reader, writer = self._stream
        writer.write(self._request(method, path, body, fields or {}))
        async with asyncio.timeout(_SECONDS):
            answer = await _read_head(reader)
            length = int(answer.fields.get("content-length", "0"))
            text = (await reader.readexactly(length)).decode()
        if answer.fields.get("connection") == "close":
            self._stream = None
        return answer._replace(text=text)

    async def follow(self, path: str) -> "Follower":
        """Open a stream."""
        reader, writer = await self.world.connect()
        writer.write(self._request("GET", path, None, {}))
        answer = await _read_head(reader)
        return Follower(self.world, path, answer, reader)

    def compared(self, answer: Answer) -> tuple[int, dict[str, str], str]:
        """Return the parts of a response that are the same in both worlds."""
        normal = self.world.normal
        fields = {
            name: re.sub(r"\d+", "<n>", value) if name == "retry-after" else normal(value)
            for name, value in answer.fields.items()
            if name not in _VARYING
        }
        return answer.status, fields, normal(answer.text)

    def _request(self, method: str, path: str, body: Any, fields: Mapping[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-API-KEY: {self.name}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        content = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            lines.append("Content-Type: application/json")
        if body is not None or method != "GET":
            lines.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class Follower:
    """A stream that a caller reads. Its events are compared for each session, in their order."""

    world: World
    path: str
    answer: Answer
    reader: asyncio.StreamReader
    text: str = ""
    _reading: "asyncio.Task[None]" = field(init=False)

    def __post_init__(self) -> None:
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while data := await self.reader.read(65_536):
            self.text += data.decode()

    async def end(self, marker: str = "") -> None:
        """Wait until the service ends the stream, or for an event with a marker, and close it."""
        async with asyncio.timeout(_SECONDS):
            while not (self._reading.done() or (marker and marker in self.text)):
                await asyncio.wait((self._reading,), timeout=0.01)
        self._reading.cancel()

    def compared(self) -> dict[str, list[str]]:
        """Return the events of each session, without the order of sessions among each other."""
        events = defaultdict(list)
        for block in self.text.split("\n\n"):
            if "event: position" in block or not block.startswith("id:"):
                continue
            subject = re.search(rf'"subject":"({_ID})"', block)
            name = self.world.normal(subject[1]) if subject else ""
            events[name].append(self.world.normal(block))
        return events


async def _read_head(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.split("\r\n")[:-2]
    fields = {}
    for line in lines:
        name, _, value = line.partition(": ")
        fields[name.lower()] = value
    return Answer(int(status.split(" ")[1]), fields, "")
