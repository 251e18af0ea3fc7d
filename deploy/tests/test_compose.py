"""The profiles of the compose file with real servers; containers do not run here."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.stores.server import free_port
from tests.support.api import create
from tests.support.processes import ROOT, ServiceProcess
from tests.support.tools import need
from tests.support.waiting import wait_until

# The network of the cluster, and one on loopback in its place.
NETWORK, LOOPBACK = "172.30.64.", "127.30.64."


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    """Start programs, each in a folder of its own; they end with the test."""
    with ExitStack() as stack:

        def run(name: str, *command: str) -> None:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)

        yield run


async def test_the_sentinels_lead_to_the_master(run: Any, tmp_path: Path) -> None:
    """With sentinel.conf as it stands, but one host, the service finds the master by its name."""
    need("redis-server", "redis-cli")
    master, sentinel = free_port(), free_port()
    given = services()["redis-1"]["command"].replace("redis-1", "localhost").split()
    run("master", *given, "--port", str(master), "--replica-announce-port", str(master))
    text = (ROOT / "deploy/redis/sentinel.conf").read_text()
    for name, here in (("redis-1 6379 2", f"localhost {master} 1"), ("26379", str(sentinel))):
        assert text.count(name) == 1
        text = text.replace(name, here)
    file = tmp_path / "sentinel.conf"
    file.write_text(text.replace("dir /data", f"dir {tmp_path}"))
    await wait_until(lambda: answers("127.0.0.1", master))
    run("sentinel", "redis-server", str(file), "--sentinel")
    url = services()["sessions-sentinel"]["environment"]["REDIS_URL"]
    hosts = "sentinel-1,sentinel-2,sentinel-3:26379"
    assert url.count(hosts) == 1
    await wait_until(lambda: answers("127.0.0.1", sentinel))
    url = url.replace(hosts, f"127.0.0.1:{sentinel}")
    with ServiceProcess(tmp_path / "service", REDIS_URL=url) as service:
        async with service.client() as client:
            assert await create(client)


async def test_the_slots_are_distributed_once(run: Any, tmp_path: Path) -> None:
    """With the commands as they stand, on loopback, three masters become a cluster; twice too."""
    need("redis-server", "redis-cli")
    masters = {name: each for name, each in services().items() if re.match(r"cluster-\d", name)}
    url = services()["sessions-cluster"]["environment"]["REDIS_URL"]
    for name, each in masters.items():
        host = each["networks"]["cluster"]["ipv4_address"].replace(NETWORK, LOOPBACK)
        run(name, *each["command"].split(), "--bind", host, "--bind-source-addr", host)
        url = url.replace(name, host)
    distribute_slots()
    distribute_slots()
    with ServiceProcess(tmp_path / "service", REDIS_URL=url) as service:
        async with service.client() as client:
            assert await create(client)


def distribute_slots() -> None:
    """Run the command of cluster-init, on loopback."""
    *shell, script = services()["cluster-init"]["command"]
    script = script.replace("$$", "$").replace(NETWORK, LOOPBACK)
    subprocess.run([*shell, script], check=True, timeout=30, stdout=subprocess.DEVNULL)


def answers(host: str, port: int) -> bool:
    """Return whether a server answers a PING."""
    command = ["redis-cli", "-h", host, "-p", str(port), "-e", "ping"]
    return subprocess.run(command, capture_output=True, timeout=5, check=False).returncode == 0
