"""The container of the rendered pods, as a process with its variables, files, user and probes."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.stores.server import free_port
from deploy.chart import Document, documents, render, value_sets
from deploy.tests.sandbox import USER, can_write, read_only
from tests.support.api import SESSIONS
from tests.support.factories import ID
from tests.support.processes import ROOT, ServiceProcess
from tests.support.servers import store_server, valkey_binary
from tests.support.waiting import wait_until

SETS = value_sets()
Run = Callable[[Document], ServiceProcess]


def container_of(values: Document) -> Document:
    (deployment,) = [each for each in documents(values) if each["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: Document = container
    return found


def image_variables() -> dict[str, str]:
    """Return the variables that the Dockerfile sets for the service."""
    (line,) = re.findall(r"^ENV (PATH=.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    pairs = (word.partition("=") for word in line.split())
    return {name: value for name, _, value in pairs if name.startswith(("SESSION_", "HOST"))}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:
        yield Path(folder)


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    """Run the container of a set of values; paths of the pod are folders of the test."""
    writable = [folder / "tmp", folder / "data"]
    secrets = folder / "secrets"
    secrets.mkdir()
    within = read_only(*writable)
    assert [each for each in (folder, *writable) if can_write(within, each)] == writable
    os.chown(writable[1], 0, USER)  # a volume with fsGroup belongs to root, and is the group's
    writable[1].chmod(0o2775)
    with ExitStack() as stack:
        store = store_server(valkey_binary(), "--unixsocketperm", "777")
        store_url = stack.enter_context(store)

        def run(values: Document) -> ServiceProcess:
            container = container_of(values)
            env = {each["name"]: each.get("value", "") for each in container["env"]}
            mounted = {name: path for name, path in env.items() if name.endswith("_FILE")}
            for name, path in mounted.items():
                file = secrets / Path(path).name
                file.write_text(store_url if name == "REDIS_URL_FILE" else "s" * 32 + "\n")
                env[name] = str(file)
            here = {"PORT": "0", "TMPDIR": str(writable[0])}
            if "METRICS_PORT" in env:
                here["METRICS_PORT"] = str(free_port())
            settings = image_variables() | env | here
            settings["SESSION_DATA_DIR"] = str(folder) + settings["SESSION_DATA_DIR"]
            return stack.enter_context(
                ServiceProcess(folder / "service", within=within, **settings)
            )

        yield run


@pytest.mark.parametrize("values", ["default", "embedded", "public", "minimal"])
async def test_a_pod_serves(run: Run, values: str) -> None:
    """The container starts as user 10001 with a read-only file system, and its probes are answered.

    Its variables are settings of the service, and it stops in order.
    """
    container = container_of(SETS[values])
    service = run(SETS[values])
    async with service.client() as client:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            async with client.get(container[probe]["httpGet"]["path"]) as response:
                assert response.status == 200, await response.text()
        body = {"agentId": ID, "userId": ID}
        async with client.post(SESSIONS, json=body) as response:
            assert response.status == (201 if values == "minimal" else 401)
        if port := variables_of(service.pid).get("METRICS_PORT"):
            async with client.get(f"http://127.0.0.1:{port}/metrics") as response:
                assert "session_service_build_info" in await response.text()
    assert user_of(service.pid) == USER
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert [line["event"] for line in service.log if line["level"] in {"error", "critical"}] == []
    for warning in ("no such setting", "others on this machine can read"):
        assert warning not in service.stderr


async def test_a_key_is_created_in_a_pod(run: Run) -> None:
    """The command in the notes makes a key in the container of a pod, which then opens the API."""
    service = run(SETS["default"])
    async with service.client() as client:
        key = create_key(service.pid)

        async def is_accepted() -> bool:
            headers = {"X-API-KEY": key}
            async with client.get(f"{SESSIONS}?userId={ID}", headers=headers) as response:
                return response.status == 200

        await wait_until(is_accepted)


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def variables_of(pid: int) -> dict[str, str]:
    """Return the environment of a process."""
    variables = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(variable.split("=", 1) for variable in variables)


def create_key(pid: int) -> str:
    """Create a key by the command in the notes, with the variables of a process."""
    notes = render(SETS["default"])["NOTES.txt"]
    (command,) = re.findall(r"-- session-service (keys create .*)", notes)
    done = subprocess.run(
        [*read_only(), sys.executable, "-m", "session_service", *command.split()],
        env=variables_of(pid),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_a_pod_without_a_folder_for_the_socket_says_so(folder: Path) -> None:
    """Without the volume at /tmp, the start ends with a line that names TMPDIR."""
    data = folder / "data"
    settings = {"TMPDIR": str(folder), "SESSION_DATA_DIR": str(data)}
    with ServiceProcess(folder / "log", within=read_only(data), **settings) as service:
        assert service.wait() == 1
        (line,) = [line["event"] for line in service.log if line["level"] == "critical"]
    assert "TMPDIR" in line
