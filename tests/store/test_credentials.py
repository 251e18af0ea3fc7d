"""Logins and TLS of the store's URL."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis import Redis

from session_service.domain.errors import StoreUnavailable
from session_service.store.client.factory import connect, open_executor
from tests.support.servers import store_server, valkey_binary
from tests.support.tls import Certificate


@asynccontextmanager
async def behind_tls(certificate: Certificate, socket: str) -> AsyncIterator[int]:
    """Run a TLS port in front of a server's unix socket; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    tasks = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        store_reader, store_writer = await asyncio.open_unix_connection(socket)
        await asyncio.gather(
            pass_on(reader, store_writer), pass_on(store_reader, writer), return_exceptions=True
        )
        tasks.discard(asyncio.current_task())

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)


async def answers(url: str) -> bool:
    """Return True if the store at a URL answers; raise StoreUnavailable otherwise."""
    executor = open_executor(url, connect(url, 2), 2)
    try:
        await executor.ping()
    finally:
        await executor.close()
    return True


async def test_a_server_with_tls(certificate: Certificate) -> None:
    """A server with TLS is used only if its certificate can be verified."""
    with store_server(valkey_binary()) as url:
        async with behind_tls(certificate, url.removeprefix("unix://")) as port:
            address = f"rediss://127.0.0.1:{port}/0"
            assert await answers(f"{address}?ssl_ca_certs={certificate.certificate}")
            with pytest.raises(StoreUnavailable) as refused:
                await answers(address)
            assert "certificate" in refused.value.reason


async def test_a_login() -> None:
    """Only the user and password of the URL are accepted."""
    with store_server(valkey_binary()) as url:
        with Redis.from_url(url) as operator:
            operator.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all")
            operator.execute_command("ACL", "SETUSER", "default", "off")
        login = url.replace("unix://", "unix://app:secret@")
        assert await answers(login)
        for wrong in (url, login.replace("secret", "guess")):
            with pytest.raises(StoreUnavailable):
                await answers(wrong)
