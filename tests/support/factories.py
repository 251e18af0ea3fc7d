"""Settings, nodes, ids, sessions, request bodies and key names that many tests need."""

from typing import Any
from uuid import uuid4

import msgspec

from session_service.composition import Store, compose
from session_service.domain.events import Event, EventId
from session_service.domain.messages import NewMessage
from session_service.domain.sessions import NewSession, Session, SessionLimits
from session_service.domain.timeouts import TimeoutConfig, to_minutes
from session_service.settings import Settings
from session_service.store.keys import Keys
from session_service.store.records import pack_id, unpack_event
from session_service.store.sessions.repository import SessionRepository

ID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"  # in shard 3f; no session has it
PREFIX = "test"
KEYS = Keys(PREFIX)
SESSION_KEYS = "*}:????????-????-*"  # a pattern of Redis: the names of all records of sessions
STORE_TIMEOUT = 5.0
RETENTION_MS = 60_000
HOUR_MS = 3_600_000

LASTING = TimeoutConfig(
    timeout_ms=HOUR_MS, auto_renew=True, max_duration_ms=2 * HOUR_MS, warning_ms=1000
)
RENEWED_BY_REQUEST = msgspec.structs.replace(LASTING, auto_renew=False)
BRIEF = TimeoutConfig(timeout_ms=30, auto_renew=False, max_duration_ms=HOUR_MS, warning_ms=1)
HELLO = NewMessage("Hello", None, b"{}", None)


def store_settings(url: str, **changes: Any) -> Settings:
    """Return the settings of a node whose keys start with ``test:``, by default without limits."""
    defaults: dict[str, Any] = {
        "key_prefix": PREFIX,
        "store_timeout": STORE_TIMEOUT,
        "retention_minutes": to_minutes(RETENTION_MS),
        "limits": SessionLimits(per_user=0, messages=0),
    }
    return Settings(redis_url=url, **{**defaults, **changes})


def another_node(store: Store, **changes: Any) -> Store:
    """Return another node on the same store, with changed settings.

    Example: ``another_node(store, webhooks=WebhookPolicy(max_queued=3)).webhooks``.
    """
    return compose(store.executor, msgspec.structs.replace(store.settings, **changes))


def new_uuid() -> str:
    """Return a random id, for example of a user."""
    return str(uuid4())


def new_session(
    config: TimeoutConfig = LASTING, *, user_id: str | None = None, metadata: bytes = b"{}"
) -> NewSession:
    """Return a session to create, for a new agent and, by default, a new user."""
    return NewSession(new_uuid(), user_id or new_uuid(), config, metadata)


async def create_session(
    repository: SessionRepository,
    config: TimeoutConfig = LASTING,
    *,
    user_id: str | None = None,
    metadata: bytes = b"{}",
) -> Session:
    """Create a session for a new agent and, by default, a new user."""
    return await repository.create(new_session(config, user_id=user_id, metadata=metadata))


def session_body(**fields: Any) -> dict[str, Any]:
    """Return the body of ``POST /sessions``; user and agent are new unless ``fields`` has them."""
    return {"agentId": new_uuid(), "userId": new_uuid(), **fields}


def event_record(
    kind: str, session_id: str, detail: str = "", *, agent_id: str = ID, user_id: str = ID
) -> bytes:
    """Return an event as the outbox has it (``store/records.py``)."""
    ids = pack_id(session_id) + pack_id(agent_id) + pack_id(user_id)
    return f"{kind} ".encode() + ids + (f" {detail}".encode() if detail else b"")


async def recorded_events(redis: Any, shard: str) -> list[Event]:
    """Return the events in the outbox of a shard, the oldest first."""
    return [
        unpack_event(EventId(int(entry.partition(b"-")[0]), shard, 0), fields[b"event"])
        for entry, fields in await redis.xrange(shard_key("events", shard))
    ]


def shard_key(part: str, shard: str) -> str:
    """Return the name of a shard's key, such as ``test:{3f}:events``.

    ``part`` is a name of the key schema (``store/keys.py``); ``shard`` may be an id that names it.
    """
    return KEYS.of_shard((part,), shard[:2]).names()[0].decode()


def own_key(part: str, owner: str) -> str:
    """Return the name of the key of a session or webhook, such as ``test:{3f}:3f25…``."""
    return KEYS.one(part, owner[:2], owner).names()[0].decode()
