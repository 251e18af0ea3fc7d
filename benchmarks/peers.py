"""The peers: servers of other frameworks, installed under build/ if possible."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.processes import BUILD

_SERVERS = Path(__file__).with_name("servers")
_NODE, _PYTHON = BUILD / "node", BUILD / "venv"
_PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "redis[hiredis]")


class Peer(NamedTuple):
    """A server to compare with; its command takes the store's URL, or for Node its socket."""

    name: str
    command: tuple[str, ...]
    versions: str
    from_socket: bool = False

    def at(self, store_url: str) -> tuple[str, ...]:
        """Return the command with the store as its last argument."""
        return (*self.command, store_url.removeprefix("unix://" if self.from_socket else ""))


def find_peers() -> tuple[list[Peer], list[str]]:
    """Install the peers; return those that work, and the reasons for the others."""
    peers: list[Peer] = []
    missing: list[str] = []
    for names, make in (("FastAPI", _fastapi), ("Express and Fastify", _node)):
        try:
            peers += make()
        except (OSError, subprocess.SubprocessError) as error:
            missing.append(f"{names}: skipped, {_reason(error)}")
    return peers, missing


def tool(package: str) -> Path:
    """Install a command-line tool; raise OSError or SubprocessError."""
    _install((package,))
    return _PYTHON / "bin" / package


def _fastapi() -> list[Peer]:
    _install(_PACKAGES)
    python = str(_PYTHON / "bin" / "python")
    code = (
        "import sys; from importlib.metadata import version;"
        " print(*(f'{n} {version(n)}' for n in sys.argv[1:]), sep=', ')"
    )
    names = ("fastapi", "uvicorn", "httptools", "uvloop", "redis", "hiredis")
    versions = _run((python, "-c", code, *names)).strip()
    return [Peer("FastAPI", (python, str(_SERVERS / "fastapi_app.py")), versions)]


def _install(packages: Sequence[str]) -> None:
    if not (_PYTHON / "bin" / "python").exists():
        _run((sys.executable, "-m", "venv", str(_PYTHON)))
    pip = (str(_PYTHON / "bin" / "python"), "-m", "pip", "--disable-pip-version-check")
    _run((*pip, "install", "--quiet", *packages))


def _node() -> list[Peer]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise FileNotFoundError("there is no Node with npm on the PATH")
    _NODE.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "express.mjs", "fastify.mjs"):
        shutil.copy(_SERVERS / file, _NODE)
    _run((npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"), _NODE)
    runtime = f"node {_run((node, '--version')).strip()}"
    ioredis = _version_of("ioredis")
    return [
        Peer(
            name,
            (node, str(_NODE / f"{name.lower()}.mjs")),
            f"{runtime}, {name.lower()} {_version_of(name.lower())}, ioredis {ioredis}",
            from_socket=True,
        )
        for name in ("Express", "Fastify")
    ]


def _version_of(package: str) -> str:
    file = _NODE / "node_modules" / package / "package.json"
    return str(json.loads(file.read_text())["version"])


def _run(command: Sequence[str], folder: Path | None = None) -> str:
    """Run a command to its end; return its output."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=180, check=True
    ).stdout


def _reason(error: Exception) -> str:
    output = getattr(error, "stderr", None)
    lines = (output.decode() if isinstance(output, bytes) else output or str(error)).split("\n")
    return next((line for line in reversed(lines) if line.strip()), type(error).__name__)
