"""The packets that clients of Socket.IO have not read yet, and their size."""

import asyncio
from collections.abc import Iterable
from typing import Any


class Unread:
    """The size of all packets that clients have not read; a packet to many counts once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._readers: dict[Any, int] = {}

    def add(self, packet: Any) -> int:
        """Add a reader of a packet; return the packet's size."""
        readers = self._readers.get(packet, 0)
        self._readers[packet] = readers + 1
        if not readers:
            self.bytes += len(packet.data)
        return len(packet.data)

    def remove(self, packet: Any) -> int:
        """Remove a reader of a packet; return the packet's size."""
        readers = self._readers.pop(packet)
        if readers > 1:
            self._readers[packet] = readers - 1
        else:
            self.bytes -= len(packet.data)
        return len(packet.data)


class PacketQueue(asyncio.Queue[Any]):
    """The packets that a client has not read yet, and their size."""

    def __init__(self, unread: Unread) -> None:
        super().__init__()
        self.bytes = 0
        self._unread = unread
        self._is_finished = False

    def finish(self, packets: Iterable[Any]) -> None:
        """Add the last packets, and the end; ignore all that are added later."""
        for packet in (*packets, None):
            self.put_nowait(packet)
        self._is_finished = True

    def forget(self) -> None:
        """Drop all packets: the client has gone."""
        while not self.empty():
            self.get_nowait()

    def _put(self, item: Any) -> None:
        if self._is_finished and item is not None:
            return
        super()._put(item)
        if _has_text(item):
            self.bytes += self._unread.add(item)

    def _get(self) -> Any:
        item = super()._get()
        if _has_text(item):
            self.bytes -= self._unread.remove(item)
        return item


def _has_text(packet: Any) -> bool:
    return packet is not None and isinstance(packet.data, str)
