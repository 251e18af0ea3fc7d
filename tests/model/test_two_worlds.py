"""Nothing that one caller does can be seen by another (access.md, "Two worlds").

B makes the same random requests in two worlds that differ only in what A does there: other sessions
beside B's, at the same agents and in the same shard, that are ended, expire and are damaged, and
requests for B's own sessions. B gets equal answers throughout.
"""

import asyncio
import itertools
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, TypeVar

import pytest
import uvloop
from redis.asyncio import Redis

from session_service.domain.rates import RateLimit
from session_service.domain.sessions import SessionLimits
from session_service.domain.timeouts import TimeoutPolicy
from session_service.domain.webhooks import WebhookPolicy
from session_service.rate_settings import RateSettings
from session_service.settings import Settings
from session_service.store.client.factory import connect
from session_service.store.keys import Keys
from tests.support.access import AGENT, OTHER_AGENT, page, user
from tests.support.api import SESSIONS
from tests.support.factories import STORE_TIMEOUT, store_settings
from tests.support.servers import store_server, valkey_binary
from tests.support.sockets import Socket
from tests.support.worlds import Answer, Caller, Follower, World, open_world

T = TypeVar("T")

ANN = "a1111111-1111-4111-8111-00000000002e"  # in the shard of BOB
BOB = "b2222222-2222-4222-8222-222222222222"
CARL = "57333333-3333-4333-8333-333333333333"
DORA = "c5444444-4444-4444-8444-444444444444"  # who is neither A nor B
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - of the specification
NEVER = "8a8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"  # in the shard of BOB; the id of no session
EVENTS = "/api/messaging/events"
WEBHOOKS = "/api/messaging/webhooks"
BRIEF_SECONDS = 0.03

_rounds = itertools.count()


class Role(NamedTuple):
    """The credentials of B and A, and the users and agents that they name."""

    b: str
    a: tuple[str, ...]
    users: tuple[str, ...]
    agents: tuple[str, ...]
    a_users: tuple[str, ...]
    a_agents: tuple[str, ...]


# A user beside another; a tenant beside another, with the same users; a page beside another user.
ROLES = {
    "user": Role("b", ("a",), (BOB,), (AGENT, OTHER_AGENT), (ANN,), (AGENT, OTHER_AGENT)),
    "key": Role(
        "bound", ("other-bound",), (ANN, BOB, CARL), (AGENT,), (ANN, BOB, CARL), (OTHER_AGENT,)
    ),
    "page": Role("page", ("a",), (BOB,), (AGENT,), (ANN,), (AGENT, OTHER_AGENT)),
}


class Step(NamedTuple):
    """A request, before it is known which ids it has in a world."""

    name: str
    pick: int  # of a session, user, agent or cursor: modulo their number
    value: int
    key: str  # Idempotency-Key, or ""


OF_SESSION = ("get", "renew", "heartbeat", "patch", "timeout", "message", "messages", "end")
SOCKET_STEPS = ("join", "join_foreign", "say", "say_foreign")
WEIGHTS = {
    "create": 5,
    "get_or_create": 1,
    "brief": 0.1,
    "foreign": 8,
    "list": 5,
    "health": 2,
    "forbidden": 1,
    "end_all": 0.2,
    "webhook": 0.7,
    "webhook_of": 1,
    "sweep": 0.5,
    **dict.fromkeys(SOCKET_STEPS, 1),
    **dict.fromkeys(OF_SESSION, 3),
}
WEIGHTS_OF_A = {**WEIGHTS, "brief": 3, "damage": 3, "sweep": 0}
KEYED = {"create", "get_or_create", "renew", "message"}


# Of others' sessions, by a filter.
FORBIDDEN = (
    ("GET", f"{SESSIONS}?userId={DORA}", None),
    ("GET", f"{SESSIONS}?agentId={NEVER}", None),
    ("POST", SESSIONS, {"userId": DORA, "agentId": NEVER}),
    ("DELETE", f"{SESSIONS}?userId={DORA}", None),
)


def of(choices: Sequence[T], number: int) -> T:
    """Return one of the choices."""
    return choices[number % len(choices)]


def session_in(answer: Answer) -> str:
    """Return the id of the session in a response."""
    return answer.text.partition('"sessionId":"')[2][:36]


async def next_millisecond() -> None:
    """Wait for the next millisecond of the clock."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == now:  # noqa: ASYNC110 - no event has the time
        await asyncio.sleep(0.0002)


def draw(dice: random.Random, weights: Mapping[str, float] = WEIGHTS) -> Step:
    """Return a random step."""
    (name,) = dice.choices(list(weights), list(weights.values()))
    key = f"key {dice.randrange(6)}" if name in KEYED and dice.random() < 0.2 else ""
    return Step(name, dice.randrange(1 << 30), dice.randrange(1 << 30), key)


def of_session(name: str, session_id: str, value: int) -> tuple[str, str, Any]:
    """Return the method, path and body of a request about a session."""
    path = f"{SESSIONS}/{session_id}"
    author = {"authorId": (BOB, AGENT)[value % 2]} if value % 5 == 0 else {}
    return {
        "get": ("GET", path, None),
        "renew": ("POST", f"{path}/renew", None),
        "heartbeat": ("POST", f"{path}/heartbeat", None),
        "patch": ("PATCH", path, {"metadata": {f"m{value % 3}": value % 7}}),
        "timeout": ("PATCH", f"{path}/timeout", {"timeoutMinutes": 5 + value % 40}),
        "message": ("POST", f"{path}/messages", {"content": f"No. {value % 9}", **author}),
        "messages": ("GET", f"{path}/messages?limit={1 + value % 4}", None),
        "end": ("DELETE", path, None),
    }[name]


class Player:
    """One of the two, in one world."""

    def __init__(self, caller: Caller, users: tuple[str, ...], agents: tuple[str, ...]) -> None:
        self.caller = caller
        self.users = users
        self.agents = agents
        self.followers: list[Follower] = []
        self.socket: Socket | None = None

    async def emit(self, step: Step, foreign: list[str]) -> str:
        """Emit an event about a session on a socket; return the acknowledgement."""
        if self.socket is None:
            self.socket = await self.caller.world.open_socket(self.caller.name)
        name, _, is_foreign = step.name.partition("_")
        sessions = foreign if is_foreign else self.caller.sessions[-12:] or [NEVER]
        payload = {"channelId": of(sessions, step.pick)}
        if name == "say":
            payload["message"] = f"No. {step.value % 9}"
        event = {"join": "1", "say": "2"}[name]
        return json.dumps(await self.socket.emit(event, payload))

    def received(self) -> dict[tuple[str, ...], list[str]]:
        """Return the events that the socket received, of each name and session in their order.

        Without broadcasts of its own sessions: there is none if the session ends at once after it.
        """
        events = defaultdict(list)
        if self.socket is not None:
            for name, *arguments in (*self.socket.greetings, *self.socket.received):
                text = json.dumps(arguments)
                sessions = re.findall(r'"(?:channel|session)Id": "(.+?)"', text)
                is_own = set(sessions) <= set(self.caller.sessions)
                if name != "connection_established" and not (name == "messageBroadcast" and is_own):
                    named = map(self.caller.world.normal, sessions)
                    events[name, *named].append(self.caller.world.normal(text))
        return events

    async def play(self, step: Step, foreign: list[str]) -> Answer:
        """Carry out a step; ``foreign`` are ids of sessions that are not this player's."""
        caller = self.caller
        method, path, body = self._request(step, foreign)
        fields = {"Idempotency-Key": step.key} if step.key else {}
        answer = await caller.ask(method, path, body, fields)
        if method == "POST" and path == SESSIONS and answer.status in (200, 201):
            session_id = session_in(answer)
            if session_id not in caller.sessions:
                caller.sessions.append(session_id)
        if method == "POST" and path == WEBHOOKS and answer.status == 201:
            caller.webhooks.append(answer.text.partition('"webhookId":"')[2][:36])
        if '"nextCursor":"' in answer.text:
            caller.cursors.append(answer.text.partition('"nextCursor":"')[2].partition('"')[0])
        return answer

    def _request(self, step: Step, foreign: list[str]) -> tuple[str, str, Any]:
        """Return the method, path and body of a step."""
        name, pick, value, _ = step
        user_id, agent_id = of(self.users, pick), of(self.agents, value)
        if name in OF_SESSION:
            return of_session(name, of(self.caller.sessions[-12:], pick), value)
        if name == "foreign":
            return of_session(of(OF_SESSION, value), of(foreign, pick), value // len(OF_SESSION))
        if name in ("create", "brief", "get_or_create"):
            body: dict[str, Any] = {"userId": user_id, "agentId": agent_id}
            if name == "get_or_create":
                body["getOrCreate"] = True
            if name == "brief":
                body["timeoutConfig"] = {"timeoutMinutes": BRIEF_SECONDS / 60, "autoRenew": False}
            return "POST", SESSIONS, body
        if name == "webhook":
            one = {"agentId": agent_id} if value % 2 else {}
            return "POST", WEBHOOKS, {"url": "https://hooks.example/", "secret": SECRET, **one}
        return {
            "end_all": (
                "DELETE",
                f"{SESSIONS}?agentId={agent_id}" + (f"&userId={user_id}" if value % 3 else ""),
                None,
            ),
            # The sizes of queues are compared at the end, when all events have come into them.
            "webhook_of": (
                "GET",
                f"{WEBHOOKS}/{of(self.caller.webhooks or [NEVER], pick)}/dead",
                None,
            ),
            "forbidden": of(FORBIDDEN, value),
            "health": ("GET", f"{SESSIONS}/health", None),
            "list": ("GET", f"{SESSIONS}?{self._query(step)}", None),
        }[name]

    def _query(self, step: Step) -> str:
        """Return the query of a listing: by user or agent or neither, and by page."""
        _, pick, value, _ = step
        query = f"limit={1 + value % 5}"
        if value % 3 == 0:
            query += f"&userId={of(self.users, pick)}"
            if value % 2 == 0:
                query += "&order=activity"
        if value % 7 == 0:
            query += f"&agentId={of(self.agents, value)}"
        if value % 4 == 0 and self.caller.cursors:
            query += f"&cursor={of(self.caller.cursors[-4:], pick)}"
        return query


class Game:
    """One round: two worlds, in each of which B plays the same, and A something else."""

    def __init__(self, role: Role, worlds: list[World], redis: Redis, dice: random.Random) -> None:
        self.role = role
        self.worlds = worlds
        self.redis = redis
        self.dice = dice
        self.foreign = [NEVER]  # ids of A's sessions, in either world
        self.compared = 0
        self.of_b = [Player(Caller(w, role.b), role.users, role.agents) for w in worlds]
        self.of_a = [
            Player(Caller(w, dice.choice(role.a)), role.a_users, role.a_agents) for w in worlds
        ]

    async def play(self, count: int) -> None:
        """Play that many steps of B."""
        await self._begin()
        for _ in range(count):
            await self._let_a_play()
            step = draw(self.dice)
            if step.name in OF_SESSION and not self.of_b[0].caller.sessions:
                continue
            if step.name == "sweep":
                await self._sweep()
                continue
            await self._compare(step)
            await next_millisecond()  # sessions that are created or active in one have no order
            if step.name == "brief":
                await asyncio.sleep(2 * BRIEF_SECONDS)  # until it is over in both worlds
        await self._end()

    async def _sweep(self) -> None:
        await asyncio.gather(*(world.store.deadlines.sweep() for world in self.worlds))

    async def _begin(self) -> None:
        for world, player in zip(self.worlds, self.of_b, strict=True):
            world.access.known |= {"a": user(ANN), "b": user(BOB)}
            if self.role.b == "page":
                body = {"userId": BOB, "agentId": AGENT}
                answer = await Caller(world, "all").ask("POST", SESSIONS, body)
                session_id = session_in(answer)
                world.access.known["page"] = page(session_id, BOB)
                world.normal(answer.text)
                player.caller.sessions.append(session_id)
            path = f"{SESSIONS}/{session_id}/events" if self.role.b == "page" else EVENTS
            player.followers.append(await player.caller.follow(path))

    async def _let_a_play(self) -> None:
        """Let A do more, less, or nothing, in each world something else."""
        for number, (world, player, b) in enumerate(
            zip(self.worlds, self.of_a, self.of_b, strict=True)
        ):
            if number == 0 and self.dice.random() < 0.8:
                continue
            for _ in range(self.dice.choice((0, 0, 1, 1, 2))):
                step = draw(self.dice, WEIGHTS_OF_A)
                if step.name in (*OF_SESSION, "damage") and not player.caller.sessions:
                    continue
                if step.name == "damage":
                    await self._damage(world, self.dice.choice(player.caller.sessions))
                    continue
                if step.name in SOCKET_STEPS:
                    await player.emit(step, b.caller.sessions or [NEVER])
                    continue
                await player.play(step, b.caller.sessions or [NEVER])
                if player.caller.sessions:
                    self.foreign.append(self.dice.choice(player.caller.sessions[-12:]))
        del self.foreign[:-20]

    async def _damage(self, world: World, session_id: str) -> None:
        """Overwrite or delete the record of a session, or its messages."""
        keys = Keys(world.store.settings.key_prefix)
        kind = self.dice.choice(("session", "session", "messages"))
        name = keys.one(kind, session_id[:2], session_id).names()[0]
        if self.dice.random() < 0.5:
            await self.redis.delete(name)
        else:
            await self.redis.set(name, b"damaged", ex=600)

    async def _compare(self, step: Step) -> None:
        """Let B play a step in both worlds; the answers are equal."""
        foreign = list(self.foreign)
        before = len(self.of_b[0].caller.sessions)
        self.compared += 1
        if step.name in SOCKET_STEPS:
            texts = [await player.emit(step, foreign) for player in self.of_b]
            normal = [p.caller.world.normal(t) for p, t in zip(self.of_b, texts, strict=True)]
            assert normal[0] == normal[1], step
            return
        answers = await asyncio.gather(*(player.play(step, foreign) for player in self.of_b))
        pairs = zip(self.of_b, answers, strict=True)
        first, second = (player.caller.compared(answer) for player, answer in pairs)
        assert first == second, step
        if len(self.of_b[0].caller.sessions) > before and self.dice.random() < 0.2:
            await self._follow_last()

    async def _follow_last(self) -> None:
        for player in self.of_b:
            path = f"{SESSIONS}/{player.caller.sessions[-1]}/events"
            player.followers.append(await player.caller.follow(path))

    async def _end(self) -> None:
        """End B's sessions, and compare the events of its streams, its socket and its webhooks."""
        servers = [Caller(world, "all") for world in self.worlds]  # B's limit may be used up
        for server, player in zip(servers, self.of_b, strict=True):
            for session_id in player.caller.sessions:
                await server.ask("DELETE", f"{SESSIONS}/{session_id}")
        await self._sweep()  # for the events of those that have expired
        await next_millisecond()  # so that the last event is the last one
        body = {"userId": self.role.users[0], "agentId": self.role.agents[0]}
        for server, player in zip(servers, self.of_b, strict=True):
            last = await server.ask("POST", SESSIONS, body)
            for follower in player.followers:
                if follower.answer.fields.get("content-type") == "text/event-stream":
                    await follower.end(session_in(last) if follower.path == EVENTS else "")
        first, second = ([f.compared() for f in player.followers] for player in self.of_b)
        assert first == second
        await self._compare_sockets()
        if self.role.b == "bound":
            await self._compare_queues()

    async def _compare_queues(self) -> None:
        """Compare the sizes of queues, once all events have come into them."""

        async def queues() -> list[Any]:
            asked = [(p.caller, await p.caller.ask("GET", WEBHOOKS)) for p in self.of_b]
            return [caller.compared(answer) for caller, answer in asked]

        await become_equal(queues)

    async def _compare_sockets(self) -> None:
        async def received() -> list[Any]:
            return [player.received() for player in self.of_b]

        await become_equal(received)


async def become_equal(read: Callable[[], Awaitable[list[Any]]]) -> None:
    """Check that what comes in the background is the same in both worlds, after 10 s at most."""
    give_up = time.monotonic() + 10
    first, second = await read()
    while first != second and time.monotonic() < give_up:
        await asyncio.sleep(0.05)
        first, second = await read()
    assert first == second


def settings_of(url: str, role: str, number: int, limit: RateLimit | None) -> Iterator[Settings]:
    """Return the settings of the two worlds of a round."""
    rates = RateSettings(user=limit, key=limit)
    for world in "xy":
        yield store_settings(
            url,
            key_prefix=f"{world}{number}",
            retention_minutes=10,
            timeouts=TimeoutPolicy(min_timeout=0.0001),
            limits=SessionLimits(per_user=0 if role == "key" else 5, messages=6),
            webhooks=WebhookPolicy(is_paused=True),
            rates=rates,
        )


async def play_round(url: str, role: str, seed: int, count: int) -> int:
    """Play a round; return the number of answers that were compared."""
    dice = random.Random(seed)
    limit = RateLimit(count * 4 // 5, 36_000) if seed % 2 else None  # in the end it is used up
    async with AsyncExitStack() as stack:
        client = connect(url, STORE_TIMEOUT)
        stack.push_async_callback(client.aclose)
        worlds = [
            await stack.enter_async_context(open_world(each))
            for each in settings_of(url, role, next(_rounds), limit)
        ]
        game = Game(ROLES[role], worlds, client, dice)
        try:
            await game.play(count)
        except AssertionError as error:
            error.add_note(f"role {role}, seed {seed}, after {game.compared} answers")
            raise
        return game.compared


@pytest.mark.parametrize("role", ROLES)
async def test_b_sees_nothing_of_a(valkey_url: str, role: str) -> None:
    """In a few hundred random operations of each role, every answer is the same in both worlds."""
    for seed in (1, 2):
        assert await play_round(valkey_url, role, seed, 150) > 100


@pytest.mark.proof
def test_b_sees_nothing_of_a_in_100_000_operations() -> None:
    """100,000 random operations of B (a user, a tenant, a page) are answered equally."""

    async def play() -> int:
        compared, seed = 0, 1000
        while compared < 100_000:
            for role in ROLES:
                with store_server(valkey_binary()) as url:
                    compared += await play_round(url, role, seed, 1000)
                seed += 1
        return compared

    assert uvloop.run(play()) >= 100_000
