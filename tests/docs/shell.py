"""A shell in a copy of the repository, as a reader has it, and the service that it started."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from session_service.store.embedded.program import ALLOCATOR
from tests.support.servers import valkey_binary, wait_for_store

ROOT = Path(__file__).parents[2]

_SERVE = re.compile(r"(make run|session-service serve|-m session_service serve)\s*&?$")
_COMMAND_SECONDS = 30.0
_STREAM_SECONDS = 2

_REAL_CURL = f"{shutil.which('curl')} --fail-with-body --show-error"

# `curl` fails if the status is above 399. A stream, which has no end, is read for a while.
_CURL = f"""#!/bin/sh
case " $* " in
*" -N "*|*" -sN "*)
    {_REAL_CURL} --max-time {_STREAM_SECONDS} "$@"
    code=$?; [ $code = 28 ] && exit 0; exit $code ;;
esac
exec {_REAL_CURL} "$@"
"""
_SERVICE = f"""#!/bin/sh
PYTHONPATH="$CHECKOUT" exec {sys.executable} -m session_service "$@"
"""


class Failed(Exception):
    """A command did not do what the page says."""


def copy_checkout(folder: Path) -> Path:
    """Copy the files of the repository, with the virtual environment as a link; return the copy."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    copy = folder / "session-service"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for lock in (copy / "requirements").iterdir():
        os.utime(lock, (0, 0))  # older than .venv/installed-run, so `make run` installs nothing
    (copy / ".venv").symlink_to(Path(sys.prefix))
    return copy


class Shell:
    """A shell whose variables, directory and service last for one page."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checkout = copy_checkout(folder)
        self._out, self._err = folder / "out", folder / "err"
        self._served = folder / "served"
        self._service = 0  # the process group of the service
        self._store: subprocess.Popen[bytes] | None = None
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (("curl", _CURL), ("session-service", _SERVICE)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        reader, writer = os.pipe()
        self._results = reader
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=self._checkout,
            env={
                "PATH": f"{programs}:{os.environ['PATH']}",
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "CHECKOUT": str(self._checkout),
                "RESULTS": str(writer),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        self.do("set -o pipefail")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the shell, its service and its store."""
        with suppress(Failed):  # the shell may hang in a command
            self.stop()
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()
        os.close(self._results)
        if self._store:
            self._store.kill()
            self._store.wait()

    def do(self, command: str) -> str:
        """Run a command; return its output. Raise Failed if its exit code is not 0.

        `doctor` may exit with 1, if it finds something.
        """
        code = self._run(command)
        if code and not (code == 1 and "session-service doctor" in command):
            raise Failed(f"exit code {code}\n{self._said()}")
        return self._out.read_text()

    def refused(self, command: str, status: str) -> str:
        """Run a command whose request is answered with this status; return its output."""
        code = self._run(command)
        if code != 22 or f"error: {status}" not in self._err.read_text():
            raise Failed(f"exit code {code}, and not the status {status}\n{self._said()}")
        return self._out.read_text()

    def _run(self, command: str) -> int:
        line = f"{{\n{command}\n}} >'{self._out}' 2>'{self._err}' </dev/null; echo $? >&$RESULTS\n"
        assert self._bash.stdin
        self._bash.stdin.write(line.encode())
        self._bash.stdin.flush()
        if not select.select([self._results], [], [], _COMMAND_SECONDS)[0]:
            raise Failed(f"it has not ended after {_COMMAND_SECONDS:.0f} s\n{self._said()}")
        return int(os.read(self._results, 100))

    def _said(self) -> str:
        return (self._out.read_text() + self._err.read_text()).strip()[-2000:]

    def serves(self, command: str) -> bool:
        """Return whether a command starts the service."""
        return _SERVE.search(_without_comment(command)) is not None

    def serve(self, command: str) -> None:
        """Start the service by a command, in place of the one that runs; wait until it is ready."""
        self.stop()
        start = _without_comment(command).removesuffix("&")
        # With -m, it has a process group of its own, whose leader is the service or make.
        self.do(f"set -m; {{ exec env {start}; }} >'{self._served}' 2>&1 & set +m; echo $!")
        self._service = int(self._out.read_text())
        give_up = time.monotonic() + _COMMAND_SECONDS
        while not _is_ready():
            if time.monotonic() > give_up or not _is_alive(self._service):
                said = self._served.read_text()[-2000:]
                raise Failed(f"the service is not ready\n{said}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the service, if one runs, and wait for its end."""
        if self._service:
            os.killpg(self._service, signal.SIGTERM)
            self._run(f"wait {self._service}")
            self._service = 0

    def start_store(self) -> None:
        """Start the Redis that pages name, at localhost:6379, once."""
        if self._store is None:
            self._store = subprocess.Popen(
                [valkey_binary(), "--save", "", "--dir", str(self._folder)],
                env={**os.environ, **ALLOCATOR},
                stdout=subprocess.DEVNULL,
            )
            wait_for_store("redis://localhost:6379")


def _without_comment(command: str) -> str:
    return re.sub(r"\s+#.*$", "", command).strip()


def _is_ready() -> bool:
    try:
        with urllib.request.urlopen("http://localhost:3000/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
