"""Consumers of events that are away during many events, and come back."""

import asyncio
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import ClientSession

from chaos.fleet import fleet
from chaos.stores.base import single_server
from chaos.trials import Row
from tests.support.api import SESSIONS, create, post
from tests.support.sse import EVENTS, ReceivedEvent, Source, follow
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver

_SESSIONS_A_SECOND = 20
_LIFE = ["created", "renewed", "renewed", "renewed", "ended"]
_MAX_WAIT = 120.0  # seconds; an endpoint may be tried again only at the end of a back-off


class _Traffic:
    """Sessions that are created, renewed and ended on two nodes in turn, and a lasting one."""

    def __init__(self, clients: list[ClientSession], lasting: str) -> None:
        self._clients = clients
        self._lasting = lasting
        self.sessions: list[str] = []  # the ended ones
        self.renewals = 0  # of the lasting session

    @property
    def events(self) -> int:
        """The number of events so far, without the creation of the lasting session."""
        return len(self.sessions) * len(_LIFE) + self.renewals

    async def run(self, seconds: float) -> None:
        """Create, renew and end sessions for a while."""
        started = time.monotonic()
        begun = 0
        async with asyncio.TaskGroup() as group:
            while (since := time.monotonic() - started) < seconds:
                while begun < since * _SESSIONS_A_SECOND:
                    client = self._clients[begun % len(self._clients)]
                    if begun % _SESSIONS_A_SECOND == 0:
                        await post(client, f"{SESSIONS}/{self._lasting}/renew")
                        self.renewals += 1
                    group.create_task(self._live(client))
                    begun += 1
                await asyncio.sleep(0.01)

    async def _live(self, client: ClientSession) -> None:
        session_id = (await create(client))["sessionId"]
        for _ in range(3):
            await post(client, f"{SESSIONS}/{session_id}/renew")
        async with client.delete(f"{SESSIONS}/{session_id}") as response:
            assert response.status == 200
        self.sessions.append(session_id)


async def _read(
    source: Source, client: ClientSession, path: str, count: int
) -> list[ReceivedEvent]:
    """Read ``count`` events; resume a stream that is cut, as browsers do."""
    events: list[ReceivedEvent] = []
    while len(events) < count:
        if (event := await source.next(_MAX_WAIT)) is None:
            source = await follow(client, path, source.last_id)
        else:
            events.append(event)
    source.response.close()
    return events


def _order(event_id: str) -> tuple[int, str, int]:
    ms, shard, number = event_id.split("-")
    return int(ms), shard, int(number)


def _problems_of(
    traffic: _Traffic, lasting: str, everything: list[ReceivedEvent], one: list[ReceivedEvent]
) -> list[str]:
    """Return the problems of two streams: that of all sessions, and that of the lasting one."""
    problems = []
    if [_order(each.id) for each in everything] != sorted({_order(each.id) for each in everything}):
        problems.append("the stream of all is not in order, or repeats itself")
    by_session = defaultdict(list)
    for each in everything:
        by_session[each.subject].append(each.name.removeprefix("session."))
    renewals = by_session.pop(lasting)
    if renewals != ["renewed"] * traffic.renewals:
        problems.append(f"{lasting}: {Counter(renewals)}, {traffic.renewals} renewals")
    problems += [
        f"stream: {each}: {by_session[each]}"
        for each in traffic.sessions
        if by_session[each] != _LIFE
    ]
    if (counts := [each.data["data"]["renewalCount"] for each in one]) != list(
        range(1, traffic.renewals + 1)
    ):
        problems.append(f"the stream of one session: renewals {counts}")
    return problems


async def away(seconds: int) -> Row:
    """Two streams and a webhook's endpoint are away; the streams then resume on another node."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        store = await stack.enter_async_context(single_server(folder))
        nodes = await stack.enter_async_context(
            fleet(folder, store.url, 2, SESSION_WEBHOOKS_ALLOW_PRIVATE="true")
        )
        one, other = clients = [
            await stack.enter_async_context(ClientSession(f"http://127.0.0.1:{port}"))
            for port in nodes.ports
        ]
        receiver = Receiver()
        await receiver.start()
        stack.push_async_callback(receiver.stop)
        lasting = (await create(one))["sessionId"]
        await post(one, WEBHOOKS, {"url": receiver.url, "secret": SECRET})
        paths = (EVENTS, f"{SESSIONS}/{lasting}/events")
        traffic = _Traffic(clients, lasting)

        sources = [await follow(one, path) for path in paths]
        await traffic.run(2)
        received = [
            await _read(source, one, path, count)
            for source, path, count in zip(
                sources, paths, (traffic.events, traffic.renewals), strict=True
            )
        ]
        await receiver.stop()

        seen = (traffic.events, traffic.renewals)
        await traffic.run(seconds)

        back = time.monotonic()
        missed = traffic.events - seen[0]
        for number, path in enumerate(paths):
            source = await follow(other, path, received[number][-1].id)
            now = (traffic.events, traffic.renewals)[number]
            received[number] += await _read(source, other, path, now - seen[number])
        streamed = time.monotonic() - back
        back = time.monotonic()
        await receiver.start()

        def has_all() -> bool:
            return all(receiver.types(each) == _LIFE for each in traffic.sessions)

        problems = _problems_of(traffic, lasting, *received)
        try:
            await wait_until(has_all, _MAX_WAIT, every=0.2)
        except AssertionError:
            wrong = [each for each in traffic.sessions if receiver.types(each) != _LIFE]
            problems += [f"webhook: {each}: {receiver.types(each)}" for each in wrong]
        delivered = time.monotonic() - back
        problems += nodes.defects()
    again = sum(map(len, receiver.received.values())) - len(
        {event["id"] for events in receiver.received.values() for event in events}
    )
    return Row(
        f"consumers away for {seconds:,} s",
        1,
        f"{missed:,} events missed; two streams received them within {streamed:.1f} s of their"
        f" return, a webhook's endpoint within {delivered:.1f} s, {again:,} repeated;"
        f" {len(problems)} problems",
        "every event, in order per session; exactly once by streams",
        problems,
    )
