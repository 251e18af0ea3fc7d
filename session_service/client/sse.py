"""Reads server-sent events from bytes (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import Iterator
from typing import NamedTuple


class Block(NamedTuple):
    """What comes before an empty line, e.g. ``id: …``, ``event: session.message`` and ``data: …``.

    A field that the block does not have is "".
    """

    id: str = ""
    event: str = ""
    data: str = ""
    retry: str = ""


class Blocks:
    """The blocks of a stream, whose bytes come in pieces of any size."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[Block]:
        """Return the blocks that a piece completes."""
        if b"\n" not in piece:
            self._rest += piece
            return
        *lines, rest = (bytes(self._rest) + piece).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            text = line.decode(errors="replace").removesuffix("\r")
            if text:
                self._lines.append(text)
            elif self._lines:
                yield _block(self._lines)
                self._lines = []


def _block(lines: list[str]) -> Block:
    fields: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    last = {name: fields[name][-1] for name in ("id", "event", "retry") if name in fields}
    return Block(**last, data="\n".join(fields.get("data", ())))
