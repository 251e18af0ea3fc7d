"""Many callers on few connections: each gets its own reply or error, in time."""

import asyncio
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from session_service.composition import open_store
from session_service.domain.errors import RecordUnreadable, SessionNotFound, StoreUnavailable
from session_service.domain.sessions import Session
from session_service.store.client.factory import connect
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import SESSION_KEYS, create_session, own_key, store_settings
from tests.support.servers import store_server, valkey_binary
from tests.support.waiting import wait_until


async def test_each_caller_gets_its_own_reply(repository: SessionRepository) -> None:
    """Each of 500 concurrent callers gets the reply to its own call."""
    sessions = await asyncio.gather(*(create_session(repository) for _ in range(500)))
    got = await asyncio.gather(*(repository.get(session.id) for session in sessions))
    assert [session.id for session in got] == [session.id for session in sessions]
    assert [session.user_id for session in got] == [session.user_id for session in sessions]


async def test_callers_that_give_up_disturb_nobody(repository: SessionRepository) -> None:
    """If half of the callers are cancelled at random moments, the others get their own replies."""
    chance = random.Random(1)
    sessions = [await create_session(repository) for _ in range(20)]
    for _ in range(20):
        calls = [
            (session, asyncio.ensure_future(repository.get(session.id)))
            for session in chance.choices(sessions, k=50)
        ]
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        given_up = chance.sample(range(50), 25)
        for n in given_up:
            calls[n][1].cancel()
        results = await asyncio.gather(*(call for _, call in calls), return_exceptions=True)
        for (session, _), result in zip(calls, results, strict=True):
            if not isinstance(result, asyncio.CancelledError):
                assert isinstance(result, Session)
                assert result.id == session.id


async def test_an_error_is_its_callers_alone(repository: SessionRepository, redis: Any) -> None:
    """A key of another type fails the call on it, and no other call of the same batch."""
    broken, *whole = [await create_session(repository) for _ in range(10)]
    key = own_key("session", broken.id)
    await redis.delete(key)
    await redis.lpush(key, "x")
    await redis.expire(key, 60)
    results = await asyncio.gather(
        *(repository.heartbeat(session.id) for session in (*whole[:5], broken, *whole[5:])),
        return_exceptions=True,
    )
    assert [isinstance(result, Session) for result in results] == [True] * 5 + [False] + [True] * 4
    assert isinstance(results[5], RecordUnreadable)


async def test_a_server_that_forgot_the_scripts_is_told_again(
    repository: SessionRepository, redis: Any
) -> None:
    """After SCRIPT FLUSH every call still happens once."""
    session = await create_session(repository)
    await redis.script_flush()
    renewed = await asyncio.gather(*(repository.renew(session.id) for _ in range(20)))
    assert sorted(s.renewal_count for s in renewed) == list(range(1, 21))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])  # they raise different errors
def test_a_server_that_resets_connections_is_tried_again(run: Any) -> None:
    """Calls succeed once a server no longer resets connections, in the middle of handshakes too."""
    with socket.create_server(("127.0.0.1", 0)) as resetting:
        port = resetting.getsockname()[1]
        resets: list[int] = []
        threading.Thread(target=_reset_all, args=(resetting, resets), daemon=True).start()
        run(_be_reset(resetting, port, resets))


def _reset_all(listener: socket.socket, resets: list[int]) -> None:
    """Accept connections and reset each, at once or up to a millisecond later."""
    with suppress(OSError):  # until the listener is closed
        while True:
            connection, _ = listener.accept()
            time.sleep(random.uniform(0, 0.001))
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
            resets.append(1)


async def _be_reset(resetting: socket.socket, port: int, resets: list[int]) -> None:
    url = f"redis://127.0.0.1:{port}"
    async with open_store(store_settings(url, store_timeout=1)) as store:
        await _use_while_reset(store.repository, resetting, port, resets)


async def _use_while_reset(
    repository: SessionRepository, resetting: socket.socket, port: int, resets: list[int]
) -> None:
    async def created() -> Session | None:
        try:
            return await create_session(repository)
        except StoreUnavailable:
            return None

    async def is_reset_often() -> bool:
        assert await created() is None
        return len(resets) >= 20

    await wait_until(is_reset_often)
    resetting.shutdown(socket.SHUT_RDWR)
    resetting.close()
    with store_server(valkey_binary(), "--port", str(port)):
        await wait_until(created)


async def service_connections(client: Any) -> list[str]:
    """Return the ids of a server's connections, without that of the client itself."""
    own = await client.client_id()
    return [each["id"] for each in await client.client_list() if int(each["id"]) != own]


class Relay:
    """A relay to a server, which can send bytes of its own and hold back replies."""

    def __init__(self, server: str) -> None:
        self.clients: list[asyncio.StreamWriter] = []
        self.keeps_back = False
        self.url = ""
        self._socket = server.removeprefix("unix://")
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        replies, requests = await asyncio.open_unix_connection(self._socket)
        self.clients.append(writer)
        for work in (self._carry(reader, requests, "request"), self._carry(replies, writer)):
            self._tasks.add(asyncio.create_task(work))

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str = "reply"
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if direction == "request" or not self.keeps_back:
                    writer.write(data)
        writer.close()

    async def close(self) -> None:
        await asyncio.wait(self._tasks)


@pytest.fixture
async def relay(valkey_url: str) -> AsyncIterator[Relay]:
    relay = Relay(valkey_url)
    async with await asyncio.start_server(relay.accept, "127.0.0.1", 0) as server:
        relay.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield relay
        await relay.close()


@pytest.fixture
async def relayed(relay: Relay) -> AsyncIterator[SessionRepository]:
    """Sessions, reached through the relay."""
    async with open_store(store_settings(relay.url, store_timeout=1)) as store:
        yield store.repository


@pytest.fixture
async def direct(valkey_url: str) -> AsyncIterator[SessionRepository]:
    """Sessions of the same server, reached without the relay."""
    async with open_store(store_settings(valkey_url)) as store:
        yield store.repository


@pytest.mark.parametrize("stray", [b"+OK\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_reply_that_nothing_asked_for_ends_the_connection(
    relay: Relay, relayed: SessionRepository, stray: bytes
) -> None:
    """An unsolicited reply closes the connection, as it could be taken for a later call's."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    session = await create_session(relayed)
    relay.clients[-1].write(stray)
    await wait_until(lambda: len(relay.clients) == 2, description="a second connection")
    assert (await relayed.get(session.id)).id == session.id
    assert problems == []


async def test_a_write_whose_reply_is_lost_is_not_sent_again(
    relay: Relay, relayed: SessionRepository, direct: SessionRepository
) -> None:
    """A write whose reply is lost happens once, and its caller gets StoreUnavailable."""
    session = await create_session(relayed)
    await relayed.renew(session.id)  # so that the server has the script
    relay.keeps_back = True
    renewals = [asyncio.ensure_future(relayed.renew(session.id)) for _ in range(20)]

    async def all_have_happened() -> bool:
        return (await direct.get(session.id)).renewal_count >= 21

    await wait_until(all_have_happened)
    for writer in relay.clients:
        writer.transport.abort()
    relay.keeps_back = False
    results = await asyncio.gather(*renewals, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}

    async def renewed() -> Session | None:
        try:
            return await relayed.renew(session.id)
        except StoreUnavailable:
            return None

    assert (await wait_until(renewed)).renewal_count == 22


class TestOnAServerOfItsOwn:
    """Tests that suspend, reconfigure or fill a server of their own."""

    @pytest.fixture
    def options(self) -> tuple[str, ...]:
        return ()

    @pytest.fixture
    async def client(self, options: tuple[str, ...]) -> AsyncIterator[Redis]:
        with store_server(valkey_binary(), *options) as url:
            client = connect(url, 5)
            yield client
            await client.aclose()

    @pytest.fixture
    async def own(self, client: Any) -> AsyncIterator[SessionRepository]:
        url = f"unix://{client.connection_pool.connection_kwargs['path']}"
        async with open_store(store_settings(url, store_timeout=0.3)) as store:
            yield store.repository

    async def test_a_server_that_hangs_is_not_waited_for(
        self, own: SessionRepository, client: Any
    ) -> None:
        """Calls to a hanging server fail in time, happen at most once, and work again later."""
        session = await create_session(own)
        process = (await client.info("server"))["process_id"]
        os.kill(process, signal.SIGSTOP)
        try:
            async with asyncio.timeout(5):  # the deadline of a call is 0.3 s
                results = await asyncio.gather(
                    *(own.renew(session.id) for _ in range(10)), return_exceptions=True
                )
        finally:
            os.kill(process, signal.SIGCONT)
        assert [type(result) for result in results] == [StoreUnavailable] * 10

        async def is_back() -> Session | None:
            try:
                return await own.get(session.id)
            except StoreUnavailable:
                return None

        assert (await wait_until(is_back)).renewal_count in range(11)

    async def test_a_lost_connection_is_made_again(
        self, own: SessionRepository, client: Any
    ) -> None:
        """After the server closed the connection, calls succeed on a new one."""
        session = await create_session(own)
        await client.client_kill_filter(_type="normal", skipme=True)

        async def is_back() -> bool:
            try:
                return bool(await own.get(session.id))
            except StoreUnavailable:
                return False

        await wait_until(is_back)

    async def test_a_master_that_becomes_a_replica_is_left(
        self, own: SessionRepository, client: Any
    ) -> None:
        """If the server becomes a replica, calls in flight fail and the connection is replaced."""
        session = await create_session(own)
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: problems.append(context)
        )
        (before,) = await service_connections(client)
        await client.replicaof("127.0.0.1", 1)
        results = await asyncio.gather(
            *(own.renew(session.id) for _ in range(100)), return_exceptions=True
        )
        assert {type(result) for result in results} == {StoreUnavailable}

        async def is_made_anew() -> bool:
            return before not in await service_connections(client)

        await wait_until(is_made_anew)
        await client.replicaof("NO", "ONE")

        async def renewed() -> Session | None:
            try:
                return await own.renew(session.id)
            except StoreUnavailable:
                return None

        assert (await wait_until(renewed)).renewal_count == 1
        assert problems == []

    @pytest.mark.parametrize("options", [("--maxmemory", "3mb")])
    async def test_a_full_server_refuses_whole_and_lets_go(
        self, own: SessionRepository, client: Any
    ) -> None:
        """A full store refuses creations entirely; reads and ends work, and ends make room."""
        sessions, refused = [], None
        while refused is None:
            try:
                sessions.append(
                    await create_session(own, metadata=b'{"a": "%s"}' % (b"x" * 10_000))
                )
            except StoreUnavailable as error:
                refused = error.reason
        assert "OOM" in refused
        assert (await own.count()).active == len(sessions)
        assert len(await client.keys(SESSION_KEYS)) == len(sessions)
        for session in sessions:
            assert (await own.get(session.id)).id == session.id
        for session in sessions:
            await own.end(session.id)
        await create_session(own)
        with pytest.raises(SessionNotFound):
            await own.get(sessions[0].id)
