"""The catalogue of Lua scripts: one a file in ``lua/``, one an operation, each declared once.

A script gets no more than it needs: a key costs Redis about 0.7 us a call, and a shared function
0.2 us, because scripts are run from their start each time. Each command costs about a microsecond,
besides its work.

Under ``maxmemory`` Redis refuses a script at its first write that takes memory. Scripts that create
something begin with such a write, so they fail before they have changed anything; scripts that end
something do not, so they still work when memory is full.

In a script on a whole shard SESSION and MESSAGES are prefixes, to which a session's id is added.
"""

from typing import Any

from session_service.store.client.script import Arguments, Script
from session_service.store.scripts.library import LIBRARY


class UnnamedArguments(Arguments):
    """A plain tuple of arguments that have no names yet."""


def _untyped(reply: Any) -> Any:
    return reply


def _script(name: str, keys: str, parts: str = "", *, writes: bool = True) -> Script[Any, Any]:
    """Declare a script whose arguments have no names yet."""
    return Script(
        LIBRARY,
        name,
        keys=tuple(keys.split()),
        arguments=UnnamedArguments,
        parts=tuple(parts.split()),
        reply=_untyped,
        writes=writes,
    )


TRIM = _script("trim", "events trimmed", "past")
MARK = _script("mark", "trimmed", "past")
READ = _script("read", "events trimmed", writes=False)

# Webhooks. What is done again where it was lost need not be acknowledged, as writes are.
_QUEUE = "queue bodies due leased dead state"
OUTBOX_NEXT = _script("webhooks/next", "events", writes=False)
OUTBOX_DONE = _script("webhooks/done", "events", writes=False)
WEBHOOKS = _script("webhooks/read", "webhooks", writes=False)
WEBHOOK_PUT = _script("webhooks/put", "webhooks", "webhooks/version")
WEBHOOK_ROTATE = _script("webhooks/rotate", "webhooks", "webhooks/version")
WEBHOOKS_ADOPTED = _script("webhooks/adopted", "webhooks", "webhooks/version")
WEBHOOK_REMOVE = _script("webhooks/remove", "webhooks", "webhooks/version")
WEBHOOK_SWITCH = _script("webhooks/switch", "webhooks", "webhooks/version")
DELIVERY_ENQUEUE = _script("webhooks/enqueue", _QUEUE, "webhooks/queue")
DELIVERY_CLAIM = _script("webhooks/claim", _QUEUE, "webhooks/queue", writes=False)
DELIVERY_SETTLE = _script("webhooks/settle", _QUEUE, "webhooks/queue", writes=False)
DELIVERY_DEAD = _script("webhooks/dead", _QUEUE, writes=False)
DELIVERY_REPLAY = _script("webhooks/replay", _QUEUE, "webhooks/queue")
QUEUE_SIZES = _script("webhooks/sizes", _QUEUE, writes=False)
QUEUE_DROP = _script("webhooks/drop", _QUEUE)
