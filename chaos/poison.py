"""Keys of the wrong type and garbage in records: no node ends, and nothing else is affected.

Three nodes serve one store. One key at a time is poisoned: of a shard that has a session which is
about to expire, or of a webhook. Meanwhile sessions of other shards expire, are listed, and are
announced to another webhook, on every node.
"""

import asyncio
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientSession
from redis import Redis

from chaos.fleet import fleet
from chaos.stores.base import single_server
from chaos.trials import Row
from session_service.domain.ids import shard_of_user
from session_service.store.keys import KINDS
from tests.support.api import SESSIONS, post
from tests.support.factories import new_uuid
from tests.support.processes import ServiceProcess
from tests.support.sse import EVENTS, Source, follow
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, WEBHOOKS, Receiver

SETTINGS = {
    "SESSION_KEY_PREFIX": "t",
    "SESSION_MIN_TIMEOUT_MINUTES": "0.005",
    "SESSION_HISTORY_RETENTION_MINUTES": "10",
    "SESSION_WEBHOOKS_ALLOW_NETWORKS": "127.0.0.0/8",
    "SESSION_WEBHOOKS_RETRY_SECONDS": "0.05",
    "LOG_FORMAT": "json",
}
BRIEF = {"timeoutMinutes": 0.005, "warningThresholdMinutes": 0.001, "autoRenew": False}

Write = Callable[[Redis, "Target"], Any]


class Target(NamedTuple):
    """The owners of the poisoned key: a session that expires soon, a webhook of another shard."""

    session: str
    webhook: str

    def key(self, part: str) -> str:
        """Return the key of the session, its shard or the webhook that a schema name stands for."""
        kind = KINDS[part]
        of_webhook = kind.part.startswith("webhook:")
        owner = self.webhook if of_webhook else self.session
        shard = "00" if part in ("webhooks", "api_keys", "meta", "verified") else owner[:2]
        return f"t:{{{shard}}}:{kind.part}" + owner * kind.has_owner


class Poison(NamedTuple):
    """A damage, and the subject that the log then names, such as ``shard``."""

    write: Write
    subject: str = ""  # empty if no background task reads the key


def wrong(part: str) -> Write:
    """Return a damage that gives a key another type than the schema's."""

    def write(redis: Redis, target: Target) -> None:
        key = target.key(part)
        redis.delete(key)
        redis.sadd(key, "x")  # no key of the schema is a set
        redis.expire(key, 600)

    return write


def as_record(value: bytes) -> Write:
    return lambda redis, target: redis.set(target.key("session"), value, ex=600)


def member(part: str, name: str, score: float = 1) -> Write:
    return lambda redis, target: redis.zadd(target.key(part), {name: score})


def other_event(name: str, value: str) -> Write:
    return lambda redis, target: redis.xadd(target.key("events"), {name: value})


def field(part: str, name: str, value: str) -> Write:
    def write(redis: Redis, target: Target) -> None:
        redis.hset(target.key(part), name, value)
        if part == "webhooks":
            redis.hset(target.key(part), "version", new_uuid())

    return write


WRONG_TYPES = {
    "session": "session", "messages": "", "retained": "", "participants": "", "warn": "shard",
    "expire": "shard", "forget": "shard", "unreadable": "shard", "listing": "shard",
    "events": "shard", "trimmed": "shard", "claim": "", "outcome": "", "webhooks": "registry",
    "api_keys": "",
    "queue": "webhook", "bodies": "webhook", "due": "webhook", "leased": "webhook", "dead": "",
    "state": "webhook", "tails": "", "used": "", "meta": "meta", "probe": "",
    "verified": "", "user_bucket": "", "key_bucket": "",
}  # fmt: skip

POISONS = {
    **{f"{part} of a wrong type": Poison(wrong(part), s) for part, s in WRONG_TYPES.items()},
    "a truncated record": Poison(as_record(b"2 17640"), "session"),
    "a record of a newer format": Poison(as_record(b"3 what it may be\n"), "session"),
    "a record of bytes": Poison(as_record(b"\xff\x00\xfe"), "session"),
    "an empty record": Poison(as_record(b""), "session"),
    "a warning of no session": Poison(member("warn", "garbage")),
    "a deadline of no session": Poison(member("expire", "", float("-inf"))),
    "a retention of no session": Poison(member("forget", "garbage")),
    "a listing of no session": Poison(member("listing", "ugarbage", 0)),
    "an unreadable session that is none": Poison(member("unreadable", "garbage")),
    "an event that is none": Poison(other_event("event", "garbage"), "event"),
    "an event of another form": Poison(other_event("other", "x"), "event"),
    "a moment that is none": Poison(lambda redis, p: redis.set(p.key("trimmed"), "soon", ex=600)),
    "a webhook that is none": Poison(field("webhooks", new_uuid(), "garbage"), "any webhook"),
    "a queue's member that is none": Poison(member("queue", "garbage", 0)),
    "a lane that is none": Poison(member("due", "garbage", 1)),
    "a mark that is none": Poison(field("state", "failures", "garbage")),
}  # fmt: skip


async def poisoned(repeats: int) -> Row:
    """Poison one key after the other, of every kind."""
    return await poison_each(list(POISONS)[:repeats])


async def poison_each(names: Sequence[str]) -> Row:
    """Poison the named keys of POISONS, one at a time."""
    problems: list[str] = []
    lines = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            store = await enter(single_server(Path(folder)))
            nodes = (await enter(fleet(Path(folder), store.url, 3, **SETTINGS))).nodes
            clients = [await enter(node.client()) for node in nodes]
            trial = _Trial(nodes, clients, Receiver())
            await trial.receiver.start()
            stack.push_async_callback(trial.receiver.stop)
            await trial.register("/hook")
            redis = stack.enter_context(Redis.from_url(store.url))
            for name in names:
                try:
                    await trial.run(name, POISONS[name], redis)
                except (AssertionError, pytest.fail.Exception) as error:
                    problems.append(str(error))
            for node in nodes:
                lines += sum("cannot be" in line["event"] for line in node.log)
                problems += [str(line) for line in node.log if "Traceback" in str(line)]
                node.signal(signal.SIGTERM)
                if code := await asyncio.to_thread(node.wait):  # the receiver goes on
                    problems.append(f"a node ended with {code}")
    return Row(
        "a key of the wrong type, or garbage in a record, under three nodes",
        len(names),
        f"{len(names)} keys; {lines} log lines of three nodes; {len(problems)} problems",
        "no node ends, no other shard or webhook is affected, each node logs it once",
        problems,
    )


class _Trial:
    """Three nodes, a client of each, and the endpoint of a webhook."""

    def __init__(
        self, nodes: list[ServiceProcess], clients: list[ClientSession], receiver: Receiver
    ) -> None:
        self.nodes = nodes
        self.clients = clients
        self.receiver = receiver
        self.logged_before = [0] * len(nodes)  # log lines of earlier trials

    async def register(self, path: str) -> str:
        url = self.receiver.url.replace("/hook", path)
        webhook = await post(self.clients[0], WEBHOOKS, {"url": url, "secret": SECRET})
        webhook_id: str = webhook["webhookId"]
        return webhook_id

    async def create(self, client: ClientSession, not_in: str = "", **config: Any) -> str:
        """Create a session in another shard than ``not_in``."""
        user = new_uuid()
        while shard_of_user(user) == not_in:
            user = new_uuid()
        body = {"userId": user, "agentId": new_uuid(), "timeoutConfig": config}
        session_id: str = (await post(client, SESSIONS, body))["sessionId"]
        return session_id

    async def run(self, name: str, poison: Poison, redis: Redis) -> None:
        """Poison a key; check that all else works and that each node logs it at most once."""
        self.logged_before = [len(node.log) for node in self.nodes]
        webhook = await self.register("/other")  # the receiver answers any path
        session = await self.create(self.clients[0], "00", **BRIEF)
        target = Target(session, webhook)
        before = {key: redis.dump(key) for key in redis.scan_iter("t:*")}
        poison.write(redis, target)
        try:
            await self._check_others(name, session[:2])
            await self._check_log(name, poison.subject, target)
        finally:
            self._repair(redis, before, target)
            async with self.clients[0].delete(f"{WEBHOOKS}/{webhook}") as response:
                assert response.status in {200, 503}, (name, await response.text())

    async def _check_others(self, name: str, bad: str) -> None:
        streams = [await follow(client, EVENTS) for client in self.clients]
        lasting = [await self.create(client, bad, timeoutMinutes=60) for client in self.clients]
        brief = [await self.create(client, bad, **BRIEF) for client in self.clients]

        def are_announced() -> bool:
            return all(self.receiver.types(each)[-1:] == ["expired"] for each in brief)

        await wait_until(are_announced, 30, description=f"{name}: expiries are delivered")
        for stream in streams:
            await _read_until_expired(stream, set(brief), name)
        for node, client in zip(self.nodes, self.clients, strict=True):
            assert not node.has_ended, (name, node.stderr)
            async with client.get(SESSIONS, params={"limit": "1000"}) as response:
                assert response.status == 200, (name, await response.text())
                found = {each["sessionId"] for each in (await response.json())["sessions"]}
                assert found >= set(lasting), name
            async with client.get(f"{SESSIONS}/health") as response:
                assert response.status == 200, (name, await response.text())
            async with client.get(WEBHOOKS) as response:
                assert response.status == (503 if name.startswith("webhooks") else 200), name
        for session_id in lasting:
            async with self.clients[0].delete(f"{SESSIONS}/{session_id}") as response:
                assert response.status == 200, (name, await response.text())

    async def _check_log(self, name: str, subject: str, target: Target) -> None:
        """Check that each node logs it at most once, and one does if the background reads it."""
        if subject == "session":
            for client in self.clients:
                async with client.get(f"{SESSIONS}/{target.session}") as response:
                    body = await response.json()
                    assert (response.status, body["error"]["code"]) == (503, "RECORD_UNREADABLE")
                    assert "Retry-After" not in response.headers
        if subject == "event":  # it does not hold up the later events of its shard
            await wait_until(
                lambda: self.receiver.types(target.session)[-1:] == ["expired"],
                description=f"{name}: the expiry of its shard is delivered",
            )
        subjects = {
            "shard": f"shard {target.session[:2]}",
            "session": target.session,
            "webhook": f"webhook {target.webhook}",
            "registry": "webhook registry",
            "meta": "the key meta",
            "event": f"-{target.session[:2]}-",
            "any webhook": "webhook ",
        }

        def lines() -> list[Counter[str]]:
            """Return for each node how often it logged each subject."""
            return [
                Counter(
                    # A stream that begins in the millisecond of an event logs its position.
                    str(line.get("subject") or line.get("session") or line.get("position"))
                    for line in node.log[before:]
                    if "cannot be" in line["event"]
                )
                for node, before in zip(self.nodes, self.logged_before, strict=True)
            ]

        expected = subjects.get(subject, "-")

        def is_logged() -> bool:
            return any(_has(counted, expected) for counted in lines())

        if subject:
            await wait_until(is_logged, 30, description=f"{name} is logged")
            (n, *_) = [n for n, counted in enumerate(lines()) if _has(counted, expected)]

            async def health_of_that_node() -> Any:
                async with self.clients[n].get(f"{SESSIONS}/health") as response:
                    return await response.json()

            async def is_counted() -> bool:  # the counts of health may be a second old
                return bool((await health_of_that_node()).get("invalidSessions"))

            if subject == "session":
                await wait_until(is_counted, description=f"{name} is counted")
            elif subject != "event":
                health = await health_of_that_node()
                assert health["status"] == "degraded", (name, health)
                assert any("cannot be processed" in reason for reason in health["reasons"])
        for counted in lines():
            assert set(counted.values()) <= {1}, (name, counted)
        others = [s for counted in lines() for s in counted if expected not in s]
        assert others == [], (name, others)

    @staticmethod
    def _repair(redis: Redis, before: dict[bytes, bytes | None], target: Target) -> None:
        """Delete the API keys and all keys of the shard; restore those of the webhooks."""
        for key in redis.scan_iter(f"t:{{{target.session[:2]}}}:*"):
            redis.delete(key)
        for part in ("webhooks", "meta"):
            key = target.key(part).encode()
            if redis.type(key) != b"hash" and (value := before.get(key)):
                redis.restore(key, 3_600_000, value, replace=True)
        for part in ("api_keys", "queue", "bodies", "due", "leased", "dead", "state"):
            redis.delete(target.key(part))
        for webhook, record in redis.hgetall(target.key("webhooks")).items():
            if record == b"garbage":
                redis.hdel(target.key("webhooks"), webhook)


async def _read_until_expired(stream: Source, sessions: set[str], name: str) -> None:
    """Read a stream until the sessions have expired, and close it."""
    while sessions:
        event = await stream.next()
        assert event is not None, f"{name}: a stream has ended"
        if event.name == "session.expired":
            sessions.discard(event.subject)
    stream.response.close()


def _has(counted: Counter[str], subject: str) -> bool:
    return any(subject in each for each in counted)
