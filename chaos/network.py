"""A network whose links a fault can cut: between two servers, or from the clients to a server.

Every server announces the port of a proxy as its own, and connects from an IP address of its own,
by which the proxies recognise it: 127.0.0.2 and up, which Linux has by default and macOS has not.
"""

import itertools
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from chaos.proxy import Proxy, proxy_to

CLIENTS = "127.0.0.1"


def is_possible() -> bool:
    """Return whether this machine has the addresses."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.2", 0))
        except OSError:
            return False
    return True


class Network:
    """Servers by their IP addresses, and the links between them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._numbers = itertools.count(2)
        self._proxies: dict[str, list[Proxy]] = defaultdict(list)  # by the server they lead to

    def next_ip(self) -> str:
        """Return the IP address for one more server, such as ``127.0.0.2``."""
        return f"127.0.0.{next(self._numbers)}"

    async def add_proxy(self, ip: str, port: int) -> int:
        """Start a proxy to a port of a server; return the proxy's port."""
        proxy = await self._stack.enter_async_context(proxy_to(port))
        self._proxies[ip].append(proxy)
        return proxy.port

    def cut(self, one: str, other: str) -> None:
        """Cut the link between two servers, in both directions."""
        for source, target in ((one, other), (other, one)):
            for proxy in self._proxies[target]:
                proxy.cut(source)

    def isolate(self, one: str, others: Iterable[str]) -> None:
        """Cut the links between one server and others."""
        for other in others:
            self.cut(one, other)

    def restore(self) -> None:
        """Restore all links; data that was held back arrives now."""
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.restore()


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """Run a network for the block."""
    async with AsyncExitStack() as stack:
        yield Network(stack)
