"""Run the commands of README.md and docs/ as they are written, and list those that cannot run here.

    python -m tests.docs.commands [PAGE…]

Each page has a shell of its own in a copy of the repository, and a service on port 3000. A command
that serves replaces it. From the start, a page has the variables of README.md: `api`, `id` (of a
session), `user`, `agent` and, with access control, `key`. A command fails if its exit code is not
0, if a request is answered with a status above 399 (unless the comment at its end begins with it:
`# 401`), or if the page shows another output. `blocks` describes how a page marks a block.

Where Linux allows it, everything runs in namespaces of its own, with a loopback and processes that
end with this program; elsewhere ports 3000 and 6379 must be free.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from session_service.domain.credentials import Permission
from tests.docs.blocks import Block, Command, blocks, matches
from tests.docs.browser import chromium, run_in_browser
from tests.docs.shell import ROOT, Failed, Shell

SECONDS = 300  # bound of the whole run

_NEEDED = ("bash", "curl", "git")
_OPTIONAL = ("docker-compose", "openssl", "redis-cli")
_NAMESPACES = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child",
               "--mount-proc"]  # fmt: skip
_INSIDE = "DOCS_TEST_INSIDE"
_ASSIGNMENTS = re.compile(r"(\w+=('[^']*'|\S*)\s*)+(#.*)?")
_SCOPES = ",".join(Permission)
_BEGIN = """api=localhost:3000/api/messaging/sessions
user=6f1c0f52-7a3e-4c55-9d0a-2b7f4e8a1c90 agent=b850bc30-45f8-0041-a00a-83df46d8555d"""
_WAIT_FOR_KEY = "sleep 2"  # a new key is valid within 2 s; a reader's next command takes longer
_CREATE = r"""id=$(curl -s $api ${key:+-H "X-API-KEY: $key"} \
  -H 'Content-Type: application/json' -d "{\"userId\": \"$user\", \"agentId\": \"$agent\"}" |
  sed 's/.*"sessionId":"\([^"]*\)".*/\1/')"""


def main() -> int:
    """Run the pages that are named, or all; return 1 if a command fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, help="by default README.md and docs/**/*.md")
    pages = parser.parse_args().pages or [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        print(f"this needs {', '.join(missing)}: install it", file=sys.stderr)
        return 1
    if _INSIDE not in os.environ and _namespaces_work():
        return subprocess.call(
            [*_NAMESPACES, sys.executable, "-m", "tests.docs.commands", *map(str, pages)],
            env={**os.environ, _INSIDE: "1"},
            cwd=ROOT,
        )
    if _INSIDE in os.environ:
        _raise_loopback()
    for port in (3000, 6379):
        if not _is_free(port):
            print(f"port {port} is in use: stop the program that listens on it", file=sys.stderr)
            return 1
    started = time.monotonic()
    run = Run(started + SECONDS)
    for page in pages:
        run.page(page.resolve())
    print(
        f"\n{run.ran} blocks ran, {run.listed} are only listed, {run.failed} failed;"
        f" {time.monotonic() - started:.0f} s"
    )
    return 1 if run.failed else 0


class Run:
    """A run over pages, and its counts of blocks."""

    def __init__(self, end: float) -> None:
        self._end = end
        self.ran = self.listed = self.failed = 0

    def page(self, page: Path) -> None:
        """Run the blocks of a page, up to the first that fails."""
        try:
            found = list(blocks(page))
        except ValueError as error:
            self._fail(str(error))
            return
        if all(reason_not_to_run(block) for block in found):
            for block in found:
                self._list(block, reason_not_to_run(block))
            return
        with tempfile.TemporaryDirectory(prefix="docs-") as folder, Shell(Path(folder)) as shell:
            reader = Reader(shell)
            for block in found:
                if time.monotonic() > self._end:
                    self._fail(f"{_place(block)}: the run takes more than {SECONDS} s")
                    return
                if reason := reason_not_to_run(block):
                    self._list(block, reason)
                    continue
                began = time.monotonic()
                try:
                    reader.follow(block)
                except (Failed, ValueError) as error:
                    self._fail(f"{_place(block)}: {error}")
                    return
                self.ran += 1
                print(f"{_place(block)}  {time.monotonic() - began:.1f} s", flush=True)

    def _list(self, block: Block, reason: str) -> None:
        self.listed += 1
        print(f"{_place(block)}  not run: {reason}", flush=True)

    def _fail(self, text: str) -> None:
        self.failed += 1
        print(f"FAILED {text}\n", flush=True)


def reason_not_to_run(block: Block) -> str:
    """Return why a block is only listed, or an empty text if it runs."""
    if block.mark.startswith("not run, "):
        return block.mark.removeprefix("not run, ")
    if block.mark == "in a browser":
        return "" if chromium() else "it needs Chromium, which is not installed"
    if all(_ASSIGNMENTS.fullmatch(each.text) for each in block.commands):
        return "it only sets variables"
    programs = {word for word in _OPTIONAL if word in f"{block.mark} {block.text}".split()}
    missing = sorted(each for each in programs if shutil.which(each) is None)
    return f"it needs {', '.join(missing)}, which is not installed" if missing else ""


class Reader:
    """A reader of one page, who types its commands."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._settings: tuple[str, ...] | None = None
        self._is_served = False

    def follow(self, block: Block) -> None:
        """Run a block; raise Failed with the command that fails."""
        if block.mark == "no service":
            self._shell.stop()
            self._is_served = False
        elif block.settings or not self._is_served:
            first = block.commands[0].text if block.language != "js" else ""
            if not self._shell.serves(first):
                self._start(block.settings)
        if block.language == "js":
            run_in_browser(block.text, block.output)
            return
        if block.mark.startswith("instead "):
            self._type(Command(block.mark.removeprefix("instead ")))
            return
        printed = "".join(self._type(command) for command in block.commands)
        if block.output is not None and not matches(block.output, printed):
            raise Failed(f"it prints\n{printed}\nand the page shows\n{block.output}")

    def _start(self, settings: tuple[str, ...]) -> None:
        if self._is_served and settings == self._settings:
            return
        if "localhost:6379" in " ".join(settings):
            self._shell.start_store()
        self._shell.do("unset key")
        self._shell.serve(" ".join((*settings, "session-service serve")))
        if self._settings:  # commands on the host run with the settings of the service
            self._shell.do("unset " + " ".join(each.partition("=")[0] for each in self._settings))
        if settings:
            self._shell.do("export " + " ".join(settings))
        self._settings, self._is_served = settings, True
        self._shell.do(_BEGIN)
        if "AUTH=on" in settings:
            self._shell.do(f"key=$(AUTH=on session-service keys create docs --scopes {_SCOPES})")
            self._shell.do(_WAIT_FOR_KEY)
        self._shell.do(_CREATE)

    def _type(self, command: Command) -> str:
        text = command.text
        if "localhost:6379" in text:
            self._shell.start_store()
        try:
            if self._shell.serves(text):
                self._shell.serve(text)
                self._is_served, self._settings = True, None
                return ""
            status = re.search(r"# (4\d\d)\b[^\n]*$", text)
            run = f"{{ {text}\n}} 2>&1" if command.output else text
            printed = self._shell.refused(text, status[1]) if status else self._shell.do(run)
        except Failed as failed:
            raise Failed(f"`{text}`: {failed}") from None
        if "keys create" in text:
            self._shell.do(_WAIT_FOR_KEY)
        if re.search(r"curl -s?N", text) and not printed:
            raise Failed(f"`{text}`: nothing arrives on the stream")
        if command.output and not matches(command.output, printed):
            raise Failed(f"`{text}` prints\n{printed}\nand the page shows\n{command.output}")
        return printed


def _place(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*_NAMESPACES, "true"], capture_output=True, check=False)
    return tried.returncode == 0


def _raise_loopback() -> None:
    """Bring up the loopback of a new network namespace; Linux alone has them."""
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


if __name__ == "__main__":
    sys.exit(main())
