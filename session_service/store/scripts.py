"""The Lua scripts, by name: one a file, one an operation."""

import hashlib
from importlib.resources import files

from session_service.store.keys import bulk

_SOURCES = files("session_service.store") / "lua"
_SHARED = (_SOURCES / "session.lua").read_text("utf-8")


class Script:
    """One operation: its source and the SHA-1 by which the server knows it."""

    def __init__(self, name: str, *, alone: bool = False) -> None:
        own = (_SOURCES / f"{name}.lua").read_text("utf-8")
        self.name = name
        self.source = (own if alone else f"{_SHARED}\n{own}").encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()
        self.packed_sha = bulk(b"EVALSHA") + bulk(self.sha)
        self.packed_source = bulk(b"EVAL") + bulk(self.source)

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


CREATE = Script("create")
GET = Script("get", alone=True)
END = Script("end")
RENEW = Script("renew")
HEARTBEAT = Script("heartbeat")
TIMEOUT = Script("timeout")
SEND = Script("send")
HISTORY = Script("history")
COUNT = Script("count")
LIST = Script("list")
SWEEP = Script("sweep")
