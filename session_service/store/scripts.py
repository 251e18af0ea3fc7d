"""The Lua scripts, by name: one a file, one an operation."""

import hashlib
from importlib.resources import files

_SOURCES = files("session_service.store") / "lua"
_SHARED = (_SOURCES / "session.lua").read_text("utf-8")


class Script:
    """One operation: its source and the SHA-1 by which the server knows it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = f"{_SHARED}\n{(_SOURCES / f'{name}.lua').read_text('utf-8')}".encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


CREATE = Script("create")
GET = Script("get")
END = Script("end")
RENEW = Script("renew")
HEARTBEAT = Script("heartbeat")
TIMEOUT = Script("timeout")
SEND = Script("send")
HISTORY = Script("history")
COUNT = Script("count")
LIST = Script("list")
SWEEP = Script("sweep")
