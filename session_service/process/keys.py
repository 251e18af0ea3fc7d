"""``session-service keys``: creates, lists, rotates and revokes the API keys in the store.

A new key is printed on standard output, alone on its line; everything else about it is on standard
error, so that a script can store the key by ``session-service keys create … > key``. If access
control is on, that includes the entry of the audit log. With ``--json``, standard output is JSON.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable

from session_service import logs
from session_service.audit import AuditEvent, record_by_operator
from session_service.domain.api_keys import (
    MAX_KEYS,
    ApiKey,
    is_key_id,
    read_agents,
    read_name,
    read_scopes,
)
from session_service.domain.errors import RecordUnreadable, StoreUnavailable, ValidationFailed
from session_service.domain.times import iso
from session_service.output import print_json, print_table
from session_service.process.reach import UnreachableStoreError, store_url
from session_service.settings import Settings
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.store.client.factory import connect, open_executor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

# Writes an entry of the audit log: _Record(AuditEvent.KEY_REVOKED, key="7k2m9x4q").
_Record = Callable[..., None]
# Does the work of a command on the keys in the store, and returns the exit code.
_Work = Callable[[ApiKeyRegistry, _Record], Awaitable[int]]


def run(settings: Settings, *, action: str, **options: object) -> int:
    """Run ``keys create``, ``list``, ``rotate`` or ``revoke``; return the exit code.

    0: done. 1: the store cannot be reached, or it has no such key. 2: an option is not valid.
    """
    logs.set_up("critical", settings.log_format)  # the lines here suffice, and the audit log
    try:
        work = _ACTIONS[action](**options)
        url = store_url(settings)
        if not settings.access.is_on:
            _say(
                "access control is off, so the service accepts requests without a key:"
                " set AUTH=on to turn it on"
            )
        return asyncio.run(_on_store(settings, url, work))
    except ValidationFailed as error:
        return _fail(error.message, 2)
    except UnreachableStoreError as error:
        return _fail(str(error))
    except (StoreUnavailable, RecordUnreadable) as error:
        return _fail(f"the store cannot be used: {error.reason}")


async def _on_store(settings: Settings, url: str, work: _Work) -> int:
    client = connect(url, settings.store_timeout)
    executor = open_executor(url, client, settings.store_timeout, settings.write_ack)
    try:
        registry = ApiKeyRegistry(executor, Keys(settings.key_prefix), Quarantine())
        return await work(registry, record_by_operator if settings.access.is_on else _record_not)
    finally:
        await executor.close()


def _create(*, key_name: str, scopes: str, agents: str, days: int | None, as_json: bool) -> _Work:
    name, permissions, bound_to = read_name(key_name), read_scopes(scopes), read_agents(agents)

    async def work(keys: ApiKeyRegistry, record: _Record) -> int:
        added = await keys.add(name, permissions, bound_to, days * _DAY_MS if days else None)
        if added is None:
            return _fail(f"there are {MAX_KEYS:,} valid keys, the most there can be: revoke one")
        key, text = added
        record(AuditEvent.KEY_CREATED, **_described(key))
        _print_key(key, text, f"API key {key.id} is valid {_until(key)}", as_json=as_json)
        return 0

    return work


def _list(*, as_json: bool) -> _Work:
    async def work(keys: ApiKeyRegistry, _: _Record) -> int:
        known, now = (await keys.list_all()).values(), round(time.time() * 1000)
        if as_json:
            listed = [{**_described_in_json(key), "state": _state(key, now)} for key in known]
            print_json({"keys": listed, "unreadable": sorted(keys.unreadable)})
        elif known or keys.unreadable:
            _print_keys(known, keys.unreadable, now)
        else:
            _say("there is no API key; `session-service keys create NAME --scopes …` creates one")
        return 0

    return work


def _rotate(*, key_id: str, overlap_hours: int, as_json: bool) -> _Work:
    _check(key_id)

    async def work(keys: ApiKeyRegistry, record: _Record) -> int:
        rotated = await keys.rotate(key_id, overlap_hours * _HOUR_MS)
        if rotated is None:
            return _fail(
                f"there is no valid API key {key_id}; `session-service keys list` shows all"
            )
        key, text = rotated
        record(AuditEvent.KEY_ROTATED, **_described(key), overlap_hours=overlap_hours)
        end = (
            f"at {iso(key.overlap_until)}" if key.overlap_until and overlap_hours else "within 2 s"
        )
        about = f"API key {key.id} has a new secret; the one before ends {end}"
        _print_key(key, text, about, as_json=as_json)
        return 0

    return work


def _revoke(*, key_id: str, as_json: bool) -> _Work:
    _check(key_id)

    async def work(keys: ApiKeyRegistry, record: _Record) -> int:
        if not await keys.revoke(key_id):
            return _fail(f"there is no API key {key_id}; `session-service keys list` shows all")
        record(AuditEvent.KEY_REVOKED, key=key_id)
        _say(f"API key {key_id} is revoked; every node refuses it within 2 s")
        if as_json:
            print_json({"id": key_id, "state": "revoked"})
        return 0

    return work


def _record_not(*_: object, **__: object) -> None:
    """Write no entry, because access control is off."""


def _described(key: ApiKey) -> dict[str, object]:
    return {
        "key": key.id,
        "key_name": key.name,
        "scopes": sorted(key.permissions),
        "agents": sorted(key.agents) if key.agents else None,
        "expires_at": None if key.expires_at is None else iso(key.expires_at),
    }


def _check(key_id: str) -> None:
    if not is_key_id(key_id):  # the message does not repeat it: it may be a whole key
        raise ValidationFailed("ID", "must be the 8 letters and digits that `keys list` shows")


def _described_in_json(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.permissions),
        "agents": sorted(key.agents) if key.agents else None,
        "createdAt": iso(key.created_at),
        "expiresAt": None if key.expires_at is None else iso(key.expires_at),
    }


def _print_key(key: ApiKey, text: str, about: str, *, as_json: bool) -> None:
    """Print a key; raises OSError if it cannot be written, after the line with its id."""
    _say(f"{about}. It is shown only once:")
    if as_json:
        print_json({**_described_in_json(key), "key": text})
    else:
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _print_keys(keys: Iterable[ApiKey], unreadable: Iterable[str], now: int) -> None:
    rows = [
        (
            key.id,
            _state(key, now),
            iso(key.created_at),
            "never" if key.expires_at is None else iso(key.expires_at),
            ",".join(sorted(key.permissions)),
            ",".join(sorted(key.agents)) if key.agents else "all",
            key.name,
        )
        for key in keys
    ]
    rows += [(each, "unreadable", *"-----") for each in sorted(unreadable)]
    print_table(("ID", "STATE", "CREATED", "EXPIRES", "SCOPES", "AGENTS", "NAME"), rows)


def _state(key: ApiKey, now: int) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.expires_at is None or now < key.expires_at else "expired"


def _until(key: ApiKey) -> str:
    return "until it is revoked" if key.expires_at is None else f"until {iso(key.expires_at)}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _fail(text: str, code: int = 1) -> int:
    _say(text)
    return code


_ACTIONS: dict[str, Callable[..., _Work]] = {
    "create": _create,
    "list": _list,
    "rotate": _rotate,
    "revoke": _revoke,
}
