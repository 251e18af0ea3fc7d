"""``session-service capacity``: its estimate is near to the memory of a real store."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace
from redis import Redis

from session_service import commands
from session_service.composition import open_store
from session_service.domain.capacity import Mix, estimate, memory_of
from session_service.domain.messages import NewMessage
from tests.support.factories import new_session, store_settings
from tests.support.servers import store_server, valkey_binary

SESSIONS = 10_000
MESSAGES = 2
TOGETHER = 1000
# A shard of a large store has more entries than fit into a listpack. With this option, so do the
# shards of 10,000 sessions, as those of 33,000 would.
AS_IF_LARGE = ("--zset-max-listpack-entries", "8")


async def test_the_memory_is_that_of_a_measured_mix() -> None:
    """The estimate for 10,000 sessions with two messages is within 15 % of the measured memory."""
    message = NewMessage("m" * 300, None, b"{}", None)
    metadata = b'{"topic": "%s"}' % (b"x" * 87)
    with store_server(valkey_binary(), *AS_IF_LARGE) as url, Redis.from_url(url) as server:
        before = used_memory(server)
        async with open_store(store_settings(url)) as store:

            async def converse() -> None:
                session = await store.repository.create(new_session(metadata=metadata))
                for _ in range(MESSAGES):
                    await store.repository.send(session.id, message)

            for _ in range(SESSIONS // TOGETHER):
                await asyncio.gather(*(converse() for _ in range(TOGETHER)))
            measured = used_memory(server) - before
    mix = Mix(sessions=SESSIONS, messages=MESSAGES, message_bytes=300, metadata_bytes=len(metadata))
    events = SESSIONS * (1 + MESSAGES)
    estimated = memory_of(mix, messages=SESSIONS * MESSAGES, expired=0, kept=0, events=events)
    assert measured == pytest.approx(estimated.total, rel=0.15)


def used_memory(server: Any) -> int:
    return int(server.info("memory")["used_memory"])


def test_the_estimate_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The estimate has the memory by purpose, the rates, the cores and the masters."""
    options = ["--sessions", "100e6", "--heartbeat", "5m", "--messages", "20x300"]
    assert commands.run(["capacity", *options]) == 0
    text = capsys.readouterr().out
    assert "100,000,000" in text
    assert "a cluster; " in text
    assert commands.run(["capacity", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mix"]["heartbeat"] == 300
    assert found["estimate"]["rates"]["heartbeats"] == pytest.approx(100e6 / 300)
    assert found["memoryBytes"] == sum(found["estimate"]["memory"].values())


def test_more_memory_needs_more_masters() -> None:
    """Half of each master's memory is used; a small store has one master and one core."""
    small = estimate(Mix(sessions=1000))
    assert (small.masters, small.cores) == (1, 1)
    mix = Mix(sessions=10_000_000, metadata_bytes=0, ended_share=1, master_bytes=2**32)
    assert estimate(mix).masters == estimate(mix).masters_for_memory
    assert estimate(mix).memory.expired == 0
    assert estimate(replace(mix, master_bytes=2**31)).masters == 2 * estimate(mix).masters
    busy = estimate(replace(mix, heartbeat=10))
    assert busy.masters == busy.masters_for_time > estimate(mix).masters


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--sessions", "many"),
        ("--sessions", "0"),
        ("--sessions", "nan"),
        ("--heartbeat", "5"),
        ("--messages", "20"),
        ("--lifetime", "1w"),
        ("--lifetime", "0s"),
        ("--master-memory", "64 GB"),
    ],
)
def test_an_option_that_cannot_be_read_is_one_line(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line has the option, an example and the value; the exit code is 2."""
    assert commands.run(["capacity", "--sessions", "1000", option, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{option} must be ")
    assert line.endswith(f"not '{value}'")
