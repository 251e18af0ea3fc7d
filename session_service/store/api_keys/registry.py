"""The API keys in the store (keys.py describes the key)."""

import os

from session_service.domain.api_keys import MAX_KEYS, ApiKey, hash_of, new_key, new_key_id
from session_service.domain.credentials import Permission
from session_service.domain.ids import SHARDS
from session_service.store.api_keys.records import pack_details, unpack_key
from session_service.store.client.executor import ScriptExecutor
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine
from session_service.store.registry_records import RegistryRecords
from session_service.store.scripts.api_keys import (
    LIST,
    PUT,
    REVOKE,
    ROTATE,
    PutArguments,
    RevokeArguments,
    RotateArguments,
)
from session_service.store.scripts.registry import ListArguments

_KEPT_MS = 365 * 24 * 3_600_000


class ApiKeyRegistry:
    """The API keys. Every method raises StoreUnavailable.

    They raise RecordUnreadable if another program has written the key of the registry.
    """

    def __init__(self, executor: ScriptExecutor, keys: Keys, quarantine: Quarantine) -> None:
        self._executor = executor
        self._registry = keys.of_shard(LIST.keys, SHARDS[0])
        self._version = b""
        self._records = RegistryRecords(unpack_key, _subject_of, quarantine)
        self._in_order: dict[str, ApiKey] = {}

    @property
    def unreadable(self) -> frozenset[str]:
        """The ids of keys whose records cannot be read."""
        return self._records.unreadable

    async def list_all(self) -> dict[str, ApiKey]:
        """Return all readable keys by id, in the order of their creation. Renews their TTL.

        Cheap if nothing has changed: the same dictionary is returned then.
        """
        version = b"" if self._records.must_read_again() else self._version
        values = await self._executor.run(LIST, self._registry, ListArguments(version, _KEPT_MS))
        if values is not None:
            self._version = values.pop(b"version", b"")
            self._records.replace(values)
            by_age = sorted(self._records.known.items(), key=lambda item: item[1].created_at)
            self._in_order = dict(by_age)
        return self._in_order

    async def add(
        self,
        name: str,
        permissions: frozenset[Permission],
        agents: frozenset[str] | None = None,
        expires_in_ms: int | None = None,
    ) -> tuple[ApiKey, str] | None:
        """Make a key; return it with its text, which is stored nowhere.

        Returns None if there are MAX_KEYS that are valid. Otherwise one that is revoked or has
        expired, the first one to end, makes room.
        """
        while True:
            key_id = new_key_id(os.urandom)
            text = new_key(key_id, os.urandom)
            reply = await self._executor.run(
                PUT,
                self._registry,
                PutArguments(
                    key_id,
                    expires_in_ms,
                    hash_of(text).hex(),
                    pack_details(name, permissions, agents),
                    MAX_KEYS,
                    _KEPT_MS,
                ),
            )
            if reply is None:
                return None
            if reply:  # else another key has this id
                return unpack_key(key_id, reply), text

    async def rotate(self, key_id: str, overlap_ms: int) -> tuple[ApiKey, str] | None:
        """Give a key a new secret; the old one is accepted beside it for ``overlap_ms``.

        An earlier one, of which the overlap has not ended, is accepted no longer. Returns the key
        with its text, or None if there is no such key, or it is revoked, expired or unreadable.
        """
        text = new_key(key_id, os.urandom)
        reply = await self._executor.run(
            ROTATE,
            self._registry,
            RotateArguments(key_id, overlap_ms, hash_of(text).hex(), _KEPT_MS),
        )
        return None if reply is None else (unpack_key(key_id, reply), text)

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key for good; return whether there is one. Works while the store is full.

        The record of one that is unreadable is deleted.
        """
        return await self._executor.run(REVOKE, self._registry, RevokeArguments(key_id, _KEPT_MS))


def _subject_of(key_id: str) -> str:
    """Return the name of a key in the quarantine, e.g. ``API key 7k2m9x4q``."""
    return f"API key {key_id}"
