"""Stores with sessions in them, and the memory that these take."""

import json
import random
import re
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from benchmarks.load import ONE, create_sessions, send_all
from benchmarks.processes import ROOT, service, store
from benchmarks.report import server_name
from tests.support.servers import valkey_binary

CONVERSATION = (1, 10, 20)  # messages
CONTENT = "m" * 200

_SAMPLED = 2000  # keys of each kind whose memory is measured, at most
_SETTLED_BYTES = 16_384  # a connection's buffers come and go
_SETTLING_SECONDS = 10.0
_is_id = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class Memory(NamedTuple):
    """The memory of all keys of a kind."""

    kind: str
    keys: int
    bytes_a_session: float


class Conversation(NamedTuple):
    """The memory that messages add, in bytes per session."""

    messages: int
    added: float  # without the outbox
    outbox: float  # the events of these messages, of which the store keeps a bounded number


def servers() -> dict[str, str]:
    """Return the program of each installed store server by name: Valkey 9, and Redis if it is."""
    found = {"Valkey": valkey_binary()}
    if redis := shutil.which("redis-server"):
        found["Redis"] = redis
    return found


class Population:
    """A store with sessions in it, and its service, which may be that of another checkout."""

    def __init__(
        self,
        stack: ExitStack,
        count: int,
        program: str,
        *,
        code: Path = ROOT,
        has_huge_pages: bool = True,
    ) -> None:
        store_url = stack.enter_context(store(program, has_huge_pages=has_huge_pages))
        self.redis = stack.enter_context(Redis.from_url(store_url))
        self.server = server_name(self.redis)
        self.count = count
        name = f"service of {count:,} on {self.server}"
        # A long timeout, because the cores are shared with the load and with other programs.
        waiting = service(store_url, name=name, code=code, SESSION_STORE_TIMEOUT_SECONDS="30")
        self.service = stack.enter_context(waiting)
        self.port = self.service.port
        empty = self._used()
        self.ids = create_sessions(self.port, count)
        self.bytes_a_session = (self._used() - empty) / count

    def memory(self) -> list[Memory]:
        """Return the memory of each kind of key; the rest are the store's own tables."""
        keys: dict[str, list[bytes]] = defaultdict(list)
        for key in self.redis.scan_iter(count=10_000):
            keys[_kind(key)].append(key)
        parts = []
        for kind, names in sorted(keys.items()):
            chosen = random.sample(names, min(len(names), _SAMPLED))
            pipe = self.redis.pipeline(transaction=False)
            for name in chosen:
                pipe.memory_usage(name, samples=0)
            used = statistics.fmean(pipe.execute()) * len(names)
            parts.append(Memory(kind, len(names), used / self.count))
        rest = self.bytes_a_session - sum(part.bytes_a_session for part in parts)
        return [*parts, Memory("all else, such as the tables of keys and of TTLs", 0, rest)]

    def converse(self) -> Iterator[Conversation]:
        """Send messages to each session; yield what they add when each has 1, 10 and 20.

        The outbox is emptied before each measurement: it is bounded (SESSION_EVENTS_MAX_LENGTH),
        so it does not grow with conversations.
        """
        self._empty_outbox()
        before, sent, outbox = self._used(), 0, 0
        for messages in CONVERSATION:
            body = json.dumps({"content": CONTENT})
            paths = [f"{ONE.replace('{}', one)}/messages" for one in self.ids]
            send_all(
                self.port, (("POST", path, body) for _ in range(messages - sent) for path in paths)
            )
            sent = messages
            outbox += self._empty_outbox()
            yield Conversation(messages, (self._used() - before) / self.count, outbox / self.count)

    def _empty_outbox(self) -> int:
        """Remove all events; return how many bytes they took."""
        before = self._used()
        pipe = self.redis.pipeline(transaction=False)
        for key in self.redis.scan_iter(count=10_000, _type="stream"):
            if _kind(key) == "events":
                pipe.xtrim(key, maxlen=0, approximate=False)
        pipe.execute()
        return before - self._used()

    def _used(self) -> int:
        """Return the used memory, once tables that are being resized have their new size."""
        give_up = time.monotonic() + _SETTLING_SECONDS
        readings: list[int] = []
        while time.monotonic() < give_up:
            readings.append(int(self.redis.info("memory")["used_memory"]))
            if len(readings) > 3 and max(readings[-3:]) - min(readings[-3:]) < _SETTLED_BYTES:
                break
            time.sleep(0.15)
        return min(readings[-3:])


def _kind(key: bytes) -> str:
    """Return the kind of a key: the part of its name after the shard (store/keys.py)."""
    rest = key.decode(errors="replace").partition("}:")[2]
    return "session" if _is_id(rest) else rest.partition(":")[0]
