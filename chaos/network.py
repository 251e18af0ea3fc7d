"""A network of which each link can be cut: between two servers, or from the clients to a server.

Every server names a proxy's port as its own, and connects from an address of its own, by which the
proxies know it: 127.0.0.2 and on, which Linux has without being asked, and macOS has not.
"""

import itertools
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from chaos.proxy import Proxy, proxy_to

CLIENTS = "127.0.0.1"


def is_possible() -> bool:
    """Whether this machine has the addresses."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.2", 0))
        except OSError:
            return False
    return True


class Network:
    """Servers by their addresses, and the links between them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._numbers = itertools.count(2)
        self._ways: dict[str, list[Proxy]] = defaultdict(list)  # by the address they lead to

    def address(self) -> str:
        """Return an address for one more server."""
        return f"127.0.0.{next(self._numbers)}"

    async def way_to(self, address: str, port: int) -> int:
        """Return a port that leads to this port of the server at an address."""
        proxy = await self._stack.enter_async_context(proxy_to(port))
        self._ways[address].append(proxy)
        return proxy.port

    def cut(self, one: str, other: str) -> None:
        """Cut the link between two, in both directions."""
        for source, target in ((one, other), (other, one)):
            for proxy in self._ways[target]:
                proxy.cut(source)

    def part(self, one: str, others: Iterable[str]) -> None:
        """Cut the links between one and others."""
        for other in others:
            self.cut(one, other)

    def mend(self) -> None:
        """Make all links good again; what was kept back arrives."""
        for proxies in self._ways.values():
            for proxy in proxies:
                proxy.mend()


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """A network, gone after the block."""
    async with AsyncExitStack() as stack:
        yield Network(stack)
