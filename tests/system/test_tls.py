"""Sentinel groups and clusters with TLS only, which the wheel's server does not support."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from chaos.stores.server import free_port
from session_service.composition import open_store
from session_service.domain.errors import StoreUnavailable
from session_service.domain.sessions import Session
from session_service.store.client.urls import read_url
from session_service.store.inspection.kinds import wrong_kind
from tests.support.factories import create_session, store_settings
from tests.support.tls import Certificate
from tests.support.tools import needs, skip_without
from tests.support.waiting import wait_until

pytestmark = needs("redis-server")


@pytest.fixture(autouse=True, scope="module")
def _has_tls() -> None:
    """Skip unless a server supports TLS: without it, it stops at the first option."""
    lines = "tls-port 0\nno-such-setting 1\n"
    done = subprocess.run(
        ["redis-server", "-"], input=lines, capture_output=True, text=True, check=False
    )
    if "no-such-setting" not in done.stdout + done.stderr:
        skip_without("redis-server with TLS")


@contextmanager
def tls_server(
    folder: Path, certificate: Certificate, *settings: str, sentinel: bool = False
) -> Iterator[int]:
    """Run a server without a plain port; yield its TLS port."""
    folder.mkdir()
    port = free_port()
    file = folder / "server.conf"
    lines = (
        "port 0",
        f"tls-port {port}",
        "bind 127.0.0.1",
        f"dir {folder}",
        f"tls-cert-file {certificate.certificate}",
        f"tls-key-file {certificate.key}",
        f"tls-ca-cert-file {certificate.certificate}",
        "tls-auth-clients no",
        "tls-replication yes",
        *settings,
    )
    file.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        ["redis-server", str(file), *["--sentinel"] * sentinel],
        env=os.environ,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def operator(port: int, certificate: Certificate) -> Redis:
    return Redis(port=port, ssl=True, ssl_ca_certs=str(certificate.certificate), host="127.0.0.1")


async def answers(server: Redis) -> None:
    def does() -> bool:
        try:
            return bool(server.ping())
        except RedisError:
            return False

    await wait_until(does)


async def assert_only_with_the_certificate(url: str, certificate: Certificate) -> None:
    """Check that sessions can be created only if the certificate can be verified."""

    async def created(url: str) -> Session | str:
        async with open_store(store_settings(url, store_timeout=1)) as store:
            try:
                return await create_session(store.repository)
            except StoreUnavailable as error:
                return error.reason

    trusting = f"{url}?ssl_ca_certs={certificate.certificate}"

    async def is_created() -> bool:
        return isinstance(await created(trusting), Session)

    await wait_until(is_created)
    assert await wrong_kind(read_url(trusting)) == ""
    assert not isinstance(await created(url), Session)
    assert not isinstance(
        await created(trusting.replace("rediss", "redis").partition("?")[0]), Session
    )


async def test_a_sentinel_group(tmp_path: Path, certificate: Certificate) -> None:
    """Sentinels and servers are reached by TLS."""
    with tls_server(tmp_path / "server", certificate) as port:
        monitored = f"sentinel monitor main 127.0.0.1 {port} 1"
        with (
            operator(port, certificate) as server,
            tls_server(tmp_path / "sentinel", certificate, monitored, sentinel=True) as sentinel,
            operator(sentinel, certificate) as watcher,
        ):
            await answers(server)
            await answers(watcher)
            url = f"rediss+sentinel://127.0.0.1:{sentinel}/main"
            await assert_only_with_the_certificate(url, certificate)


async def test_a_cluster(tmp_path: Path, certificate: Certificate) -> None:
    """Cluster nodes are discovered and reached by TLS."""
    settings = ("cluster-enabled yes", "tls-cluster yes", f"cluster-port {free_port()}")
    with (
        tls_server(tmp_path / "node", certificate, *settings) as port,
        operator(port, certificate) as server,
    ):
        await answers(server)
        server.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await assert_only_with_the_certificate(f"rediss+cluster://127.0.0.1:{port}", certificate)
