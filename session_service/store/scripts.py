"""The Lua scripts, by name: one a file, one an operation.

A script is put together from a header, which gives its keys their names, the files it shares with
others, and its own. It gets no more than it needs: a key costs Redis about 0.7 us a call, and a
shared function 0.2 us, for scripts are run from their start each time.
"""

import hashlib
from functools import cached_property
from importlib.resources import files

from session_service.store.keys import bulk

_SOURCES = files("session_service.store") / "lua"


class Script:
    """One operation: its source, the keys it takes, and the SHA-1 by which the server knows it."""

    def __init__(
        self,
        name: str,
        keys: str,
        shared: str = "",
        *,
        writes: bool = True,
        remembers: bool = False,
    ) -> None:
        self.name = name
        self.writes = writes
        self.keys = tuple(keys.split())
        self._shared = shared
        parts = [_read(part) for part in (*shared.split(), name)]
        if remembers:
            parts = ["local function act()", *parts, "end", _read("remember")]
        self.source = "\n".join((self._header(), *parts)).encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()
        self.packed_sha = bulk(b"EVALSHA") + bulk(self.sha)

    @cached_property
    def keeping(self) -> "Script":
        """The same operation, which keeps conversations for a while instead of deleting them."""
        keys = " ".join((*self.keys, "kept", "parties"))
        return Script(self.name, keys, self._shared.replace("delete", "keep"))

    @cached_property
    def remembering(self) -> "Script":
        """The same operation, to happen once: it remembers its reply (lua/remember.lua)."""
        keys = " ".join((*self.keys, "outcome", "tails", "used"))
        return Script(self.name, keys, self._shared, remembers=True)

    def _header(self) -> str:
        names = ", ".join(key.upper() for key in self.keys)
        values = ", ".join(f"KEYS[{n}]" for n in range(1, len(self.keys) + 1))
        return f"local {names} = {values}"

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


def _read(part: str) -> str:
    return (_SOURCES / f"{part}.lua").read_text("utf-8")


CREATE = Script("create", "session warn listing events", "base session outbox deadline listing")
GET = Script("get", "session", writes=False)
END = Script(
    "end",
    "session messages warn expire listing events",
    "base session outbox listing delete ending",
)
END_ALL = Script(
    "end_all",
    "session messages warn expire listing events",
    "base session lookup outbox listing delete ending",
)
RENEW = Script("renew", "session warn expire events", "base session outbox deadline renewal")
HEARTBEAT = Script(
    "heartbeat", "session warn expire events", "base session outbox deadline renewal"
)
TIMEOUT = Script(
    "timeout",
    "session messages warn expire listing events",
    "base session outbox deadline",
)
SEND = Script("send", "session messages warn expire events", "base session outbox deadline renewal")
HISTORY = Script("history", "session messages", "base session page", writes=False)
COUNT = Script(
    "count",
    "session warn expire forget listing unreadable",
    "base session lookup listing",
    writes=False,
)
LIST = Script("list", "session listing", "base session lookup", writes=False)
NOTE = Script("note", "session warn unreadable", "base session lookup deadline unreadable")
DUE = Script("due", "warn expire forget unreadable", writes=False)
SWEEP = Script(
    "sweep",
    "session messages warn expire forget unreadable listing events",
    "base session lookup outbox deadline unreadable listing delete",
)
REPAIR = Script("repair", "session messages warn expire unreadable listing", "base")
META = Script("meta", "meta", writes=False)  # what is made again need not be acknowledged
LAYOUT = Script("layout", "session listing", writes=False)
TRIM = Script("trim", "events trimmed", "past")
MARK = Script("mark", "trimmed", "past")
KEPT = Script("kept", "kept parties", "page", writes=False)
ERASE = Script("erase", "kept parties")
READ = Script("read", "events trimmed", writes=False)
CLAIM = Script("claim", "claim")
ANSWER = Script("answer", "claim")
PROBE = Script("probe", "probe", writes=False)  # what it writes is gone when it ends

# Webhooks. What is done again where it was lost need not be acknowledged, as writes are.
_QUEUE = "queue bodies due leased dead state"
OUTBOX_NEXT = Script("webhooks/next", "events", writes=False)
OUTBOX_DONE = Script("webhooks/done", "events", writes=False)
WEBHOOKS = Script("webhooks/read", "webhooks", writes=False)
WEBHOOK_PUT = Script("webhooks/put", "webhooks", "webhooks/version")
WEBHOOK_ROTATE = Script("webhooks/rotate", "webhooks", "webhooks/version")
WEBHOOKS_ADOPTED = Script("webhooks/adopted", "webhooks", "webhooks/version")
WEBHOOK_REMOVE = Script("webhooks/remove", "webhooks", "webhooks/version")
WEBHOOK_SWITCH = Script("webhooks/switch", "webhooks", "webhooks/version")
DELIVERY_ENQUEUE = Script("webhooks/enqueue", _QUEUE, "webhooks/queue")
DELIVERY_CLAIM = Script("webhooks/claim", _QUEUE, "webhooks/queue", writes=False)
DELIVERY_SETTLE = Script("webhooks/settle", _QUEUE, "webhooks/queue", writes=False)
DELIVERY_DEAD = Script("webhooks/dead", _QUEUE, writes=False)
DELIVERY_REPLAY = Script("webhooks/replay", _QUEUE, "webhooks/queue")
QUEUE_SIZES = Script("webhooks/sizes", _QUEUE, writes=False)
QUEUE_DROP = Script("webhooks/drop", _QUEUE)
