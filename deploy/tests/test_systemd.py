"""The unit for systemd: verified by its tools, and run as a process with what it permits."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.tests.sandbox import read_only
from tests.support.api import create
from tests.support.processes import ROOT, ServiceProcess
from tests.support.servers import store_server, valkey_binary
from tests.support.tools import need, skip_without

FOLDER = ROOT / "deploy/systemd"
UNIT = FOLDER / "session-service.service"
DROP_IN = FOLDER / "session-service.service.d/redis.conf"

# Runs a program that can never write to memory and then execute it, as MemoryDenyWriteExecute=.
_WITHOUT_WRITABLE_CODE = """
import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit(77)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def options(text: str) -> list[tuple[str, str]]:
    """Return the options of a unit, in order: ``[("Type", "exec"), …]``."""
    return re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)


def option(name: str) -> str:
    (value,) = [value for each, value in options(UNIT.read_text()) if each == name]
    return value


def variables(text: str, folder: Path) -> dict[str, str]:
    """Return what ``Environment=`` sets, with the folders of systemd below another one."""
    words = " ".join(value for name, value in options(text) if name == "Environment").split()
    for specifier, name in (("%S", "state"), ("%t", "run"), ("%d", "credentials")):
        words = [word.replace(specifier, str(folder / name)) for word in words]
    return dict(word.split("=", 1) for word in words)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit and its drop-in as they are installed, with a program that exists here."""
    need("systemd-analyze")
    shutil.copytree(FOLDER, tmp_path / "units")
    unit = tmp_path / "units" / UNIT.name
    program = option("ExecStart").split()[0]
    unit.write_text(UNIT.read_text().replace(program, "/bin/true"))
    return unit


def test_systemd_accepts_the_unit(installed: Path) -> None:
    """systemd-analyze verifies the unit with its drop-in, and warns of nothing."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(installed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_is_hardened(installed: Path) -> None:
    """The exposure that systemd-analyze computes is at most 1.5 of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(installed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_stop_has_time_for_the_drain() -> None:
    """Systemd waits longer than the drain takes, and signals the service alone."""
    assert float(option("TimeoutStopSec")) >= 8 + 10
    assert option("KillMode") == "mixed"


def test_a_wrong_setting_is_not_tried_again(tmp_path: Path) -> None:
    """The exit code of a setting that is not allowed prevents a restart."""
    service = ServiceProcess(tmp_path, PORT="70000")
    assert str(service.wait()) == option("RestartPreventExitStatus")


class Installed:
    """The service with the variables, the folders and the restrictions of the unit."""

    def __init__(self, root: Path) -> None:
        self.settings = variables(UNIT.read_text(), root)
        self._drop_in = variables(DROP_IN.read_text(), root)
        self._log = root / "log"
        folders = [root / "state/session-service", root / "run/session-service"]
        self._within = [*read_only(*folders), sys.executable, "-c", _WITHOUT_WRITABLE_CODE]
        if subprocess.run([*self._within, "true"], check=False).returncode == 77:
            skip_without("Linux 6.3, which refuses writable code")

    def use_store(self, url: str) -> None:
        """Use a store by the drop-in, whose credential is the URL."""
        self.settings |= self._drop_in
        credential = Path(self.settings["REDIS_URL_FILE"])
        credential.parent.mkdir()
        credential.write_text(url)

    def start(self, **settings: str) -> ServiceProcess:
        return ServiceProcess(self._log, within=self._within, **self.settings, **settings)


@pytest.fixture
def service() -> Iterator[Installed]:
    """A service to start, in a folder whose path leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:
        yield Installed(Path(folder))


@pytest.mark.parametrize("store", ["embedded", "redis"])
async def test_the_unit_serves(service: Installed, store: str) -> None:
    """The service works with what the unit permits, also with the drop-in, and stops in order."""
    with store_server(valkey_binary(), "--unixsocketperm", "777") as url:
        if store == "redis":
            service.use_store(url)
        with service.start() as running:
            async with running.client() as client:
                await create(client)
            assert ("store: embedded" in running.start_line) is (store == "embedded")
            running.signal(signal.SIGTERM)
            assert running.wait() == 0
    warnings = [line["event"] for line in running.log if line["level"] != "info"]
    assert [each for each in warnings if "does not write to disk" not in each] == []


def test_root_creates_keys_beside_the_unit(service: Installed) -> None:
    """Root makes a key by the documented command, in the store of the service that runs."""
    text = (ROOT / "docs/deploying.md").read_text()
    (command,) = re.findall(
        r"^sudo env SESSION_DATA_DIR=\S+ \S+/session-service (.*)$", text, re.MULTILINE
    )
    data = service.settings["SESSION_DATA_DIR"]
    with service.start(AUTH="on") as running:
        assert running.start_line
        done = subprocess.run(
            [sys.executable, "-m", "session_service", *command.split()],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SESSION_DATA_DIR": data},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ssk_")


def test_no_system_call_is_filtered(tmp_path: Path) -> None:
    """Every system call of a service with workers and its store is in the filter of the unit."""
    need("strace", "systemd-analyze")
    trace = tmp_path / "trace"
    within = ["strace", "--follow-forks", "--quiet=all", "--output", str(trace)]
    with ServiceProcess(tmp_path / "service", within=within, WEB_CONCURRENCY="2") as service:
        assert service.port
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text()
        os.kill(int(children), signal.SIGTERM)  # the service, not strace
        assert service.wait() == 0
    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert {"accept4", "execve", "openat"} & made
    allowed: set[str] = set()
    for value in [value for name, value in options(UNIT.read_text()) if name == "SystemCallFilter"]:
        if value.startswith("~"):
            allowed -= calls_of(value.removeprefix("~"))
        else:
            allowed |= calls_of(value)
    assert made - allowed == set()


def calls_of(name: str) -> set[str]:
    """Return the system calls of a set such as ``@system-service``, with those of sets in it."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
    names = [line for line in lines if line and not line.startswith("#")]
    return set().union(*map(calls_of, names))
