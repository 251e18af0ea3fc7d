"""Consumers of events that are away while much happens, and come back."""

import asyncio
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import ClientSession

from chaos.fleet import fleet
from chaos.stores import one_server
from chaos.trials import Row
from tests.support.api import SESSIONS, create, post
from tests.support.sse import EVENTS, Source, Told, follow
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver

_LIVES_A_SECOND = 20
_LIFE = ["created", "renewed", "renewed", "renewed", "ended"]
_PATIENCE = 120.0  # seconds; an endpoint may be found to be back at the end of a pause


class _Happenings:
    """Sessions that live, and one that is renewed now and then; through two nodes in turn."""

    def __init__(self, clients: list[ClientSession], lasting: str) -> None:
        self._clients = clients
        self._lasting = lasting
        self.lives: list[str] = []
        self.renewals = 0  # of the one that lasts

    @property
    def events(self) -> int:
        """How many have happened, but for the creation of the one that lasts."""
        return len(self.lives) * len(_LIFE) + self.renewals

    async def go_on(self, seconds: float) -> None:
        """Have it all happen for a while."""
        started = time.monotonic()
        begun = 0
        async with asyncio.TaskGroup() as group:
            while (since := time.monotonic() - started) < seconds:
                while begun < since * _LIVES_A_SECOND:
                    client = self._clients[begun % len(self._clients)]
                    if begun % _LIVES_A_SECOND == 0:
                        await post(client, f"{SESSIONS}/{self._lasting}/renew")
                        self.renewals += 1
                    group.create_task(self._live(client))
                    begun += 1
                await asyncio.sleep(0.01)

    async def _live(self, client: ClientSession) -> None:
        session_id = (await create(client))["sessionId"]
        for _ in range(3):
            await post(client, f"{SESSIONS}/{session_id}/renew")
        async with client.delete(f"{SESSIONS}/{session_id}") as answer:
            assert answer.status == 200
        self.lives.append(session_id)


async def _read(source: Source, client: ClientSession, path: str, count: int) -> list[Told]:
    """Read so many events, and resume a stream that is cut, as browsers do."""
    told: list[Told] = []
    while len(told) < count:
        if (event := await source.next(_PATIENCE)) is None:
            source = await follow(client, path, source.last_id)
        else:
            told.append(event)
    source.answer.close()
    return told


def _order(event_id: str) -> tuple[int, str, int]:
    ms, shard, number = event_id.split("-")
    return int(ms), shard, int(number)


def _problems_of(
    happened: _Happenings, lasting: str, told: list[Told], one: list[Told]
) -> list[str]:
    """What is wrong in what the streams told, of everything and of one session."""
    problems = []
    if [_order(each.id) for each in told] != sorted({_order(each.id) for each in told}):
        problems.append("the stream of all is not in order, or repeats itself")
    by_session = defaultdict(list)
    for each in told:
        by_session[each.subject].append(each.name.removeprefix("session."))
    renewals = by_session.pop(lasting)
    if renewals != ["renewed"] * happened.renewals:
        problems.append(f"{lasting}: {Counter(renewals)}, {happened.renewals} renewals")
    problems += [
        f"stream: {each}: {by_session[each]}"
        for each in happened.lives
        if by_session[each] != _LIFE
    ]
    if (counts := [each.data["data"]["renewalCount"] for each in one]) != list(
        range(1, happened.renewals + 1)
    ):
        problems.append(f"the stream of one session: renewals {counts}")
    return problems


async def away(seconds: int) -> Row:
    """Two streams and a webhook's endpoint are away; the streams return to another node."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        store = await stack.enter_async_context(one_server(folder))
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
        happened = _Happenings(clients, lasting)

        sources = [await follow(one, path) for path in paths]
        await happened.go_on(2)
        told = [
            await _read(source, one, path, count)
            for source, path, count in zip(
                sources, paths, (happened.events, happened.renewals), strict=True
            )
        ]
        await receiver.stop()

        seen = (happened.events, happened.renewals)
        await happened.go_on(seconds)

        back = time.monotonic()
        missed = happened.events - seen[0]
        for number, path in enumerate(paths):
            source = await follow(other, path, told[number][-1].id)
            now = (happened.events, happened.renewals)[number]
            told[number] += await _read(source, other, path, now - seen[number])
        streamed = time.monotonic() - back
        back = time.monotonic()
        await receiver.start()

        def has_all() -> bool:
            return all(receiver.types(each) == _LIFE for each in happened.lives)

        problems = _problems_of(happened, lasting, *told)
        try:
            await wait_until(has_all, _PATIENCE, every=0.2)
        except AssertionError:
            wrong = [each for each in happened.lives if receiver.types(each) != _LIFE]
            problems += [f"webhook: {each}: {receiver.types(each)}" for each in wrong]
        delivered = time.monotonic() - back
        problems += nodes.defects()
    again = sum(map(len, receiver.told.values())) - len(
        {event["id"] for events in receiver.told.values() for event in events}
    )
    return Row(
        f"consumers away for {seconds:,} s",
        1,
        f"{missed:,} events missed; two streams had them {streamed:.1f} s after their return, the"
        f" endpoint of a webhook after {delivered:.1f} s, {again:,} of them again;"
        f" {len(problems)} problems",
        "every event, in order per session; by streams once",
        problems,
    )
