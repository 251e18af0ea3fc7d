"""The Redis protocol (RESP), as far as calls need it: arguments and keys, packed."""

from collections.abc import Sequence
from typing import Any

import msgspec

Argument = bytes | str | int | None

# A reply as hiredis returns it: bytes, int, None, or a list of replies. Any, because only the
# declaration of a script knows the shape of its replies.
RawReply = Any


def bulk(value: bytes) -> bytes:
    r"""Return a value as a bulk string, e.g. ``$3\r\nGET\r\n``."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def encode(argument: Argument) -> bytes:
    """Return an argument as it is sent: text in UTF-8, True as ``1``, None as an empty string."""
    if isinstance(argument, str):
        return argument.encode()
    if isinstance(argument, bytes):
        return argument
    return b"" if argument is None else b"%d" % argument


def pack(argument: Argument) -> bytes:
    """Return an argument as a bulk string. It runs for each argument, so it calls nothing."""
    if isinstance(argument, str):
        argument = argument.encode()
    elif not isinstance(argument, bytes):
        argument = b"" if argument is None else b"%d" % argument
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


class KeySet(msgspec.Struct, frozen=True, gc=False):
    """The keys of one call. They are of one shard, unless the executor spans shards.

    A struct, because making one takes 0.03 us, and a named tuple 0.2.
    """

    shard: str  # of the first key
    size: int
    packed: bytes  # as the protocol has them, their count first

    @classmethod
    def of(cls, shard: str, names: Sequence[bytes]) -> "KeySet":
        """Pack keys, e.g. ``KeySet.of("3f", [b"session-service:{3f}:events"])``."""
        return cls(shard, len(names), bulk(b"%d" % len(names)) + b"".join(map(bulk, names)))

    def and_those(self, others: "KeySet") -> "KeySet":
        """Return these keys, then those of ``others``, as keys of the shard of these."""
        size = self.size + others.size
        own, more = (keys.packed.split(b"\r\n", 2)[2] for keys in (self, others))
        return KeySet(self.shard, size, bulk(b"%d" % size) + own + more)

    def names(self) -> list[bytes]:
        """Return the keys one by one."""
        return self.packed.split(b"\r\n")[3::2]
