"""The API keys of the store, in the memory of this process: a request waits for no look-up."""

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from session_service.domain.api_keys import ID, ApiKey, has_form, hash_of, read_key_id
from session_service.domain.credentials import Credential
from session_service.domain.errors import StoreUnavailable
from session_service.store.api_keys.registry import ApiKeyRegistry
from session_service.store.quarantine import Quarantine

_POLL_SECONDS = 1.0  # so a change takes effect on every node within 2 s; one call of 5 us
_SERVES_SECONDS = 60.0  # for which a copy is used while the store is unavailable

log = logging.getLogger(__name__)


class _Secret(NamedTuple):
    """One of a key's secrets, by its hash, and the credential of clients that send it."""

    hash: bytes
    credential: Credential
    until: float  # epoch ms, when it is no longer accepted; 0 if its key is revoked


class _Entry(NamedTuple):
    """A key: its secret, the one before if there was a rotation, and when the key itself ends."""

    until: float  # epoch ms; 0 if it is revoked
    current: _Secret
    previous: _Secret | None


class ApiKeys:
    """The API keys, as they were when they were last read from the store.

    Example::

        keys = ApiKeys(registry)
        await keys.refresh()
        keys.find("ssk_7k2m9x4q_0mQ8…_a7639d14", now)  # Credential(kind=Kind.KEY, id="7k2m9x4q", …)
    """

    def __init__(
        self, registry: ApiKeyRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._known: dict[str, ApiKey] | None = None  # as the registry has them
        self._entries: dict[str, _Entry] = {}
        # Texts that passed the check, one for each secret at most, until any key changes. Python's
        # hash of a text has a random seed, so the time of a look-up tells nothing about them.
        self._found: dict[str, _Secret] = {}
        self._unreadable: frozenset[str] = frozenset()
        self._serves_until = float("-inf")

    def find(self, text: str, now: int) -> Credential | None:
        """Return the credential of a key, or None if it is not valid at ``now`` (epoch ms).

        Raises StoreUnavailable if the keys were last read more than a minute ago, or never, and if
        the record of this key cannot be read.
        """
        secret = self._found.get(text)
        if secret is None or self._clock() > self._serves_until:
            secret = self._verify(text)
        return secret.credential if secret is not None and now < secret.until else None

    def _verify(self, text: str) -> _Secret | None:
        """Return the secret that a text is, valid or not, or None. Raises as ``find``."""
        if not has_form(text):
            return None
        entry = self._entries.get(text[ID])  # of a known id the hash decides, not the check digits
        if entry is None or self._clock() > self._serves_until:
            key_id = read_key_id(text)
            if key_id is not None:
                self._must_know(key_id)
            return None
        hashed = hash_of(text)
        for secret in (entry.current, entry.previous):
            if secret is not None and hmac.compare_digest(hashed, secret.hash):
                self._found[text] = secret
                return secret
        return None

    def is_revoked(self, key_id: str, now: int) -> bool:
        """Return whether a key is revoked, expired at ``now`` (epoch ms), or unknown.

        For open connections. Raises as ``find``: until then, whether it is revoked is not known.
        """
        return self.name_of(key_id, now) is None

    def name_of(self, key_id: str, now: int) -> str | None:
        """Return the name of a key, or None if it is revoked, expired at ``now``, or unknown.

        For session tokens, which end with the key that minted them. Raises as ``find``.
        """
        self._must_know(key_id)
        entry = self._entries.get(key_id)
        return None if entry is None or now >= entry.until else entry.current.credential.name

    def _must_know(self, key_id: str) -> None:
        """Raise StoreUnavailable if it is unknown whether a key is valid."""
        if self._clock() > self._serves_until:
            raise StoreUnavailable("the API keys could not be read for a minute")
        if key_id in self._unreadable:
            raise StoreUnavailable(f"the record of API key {key_id} cannot be read")

    def has_valid(self, now: int) -> bool:
        """Return whether any key is valid at ``now`` (epoch ms)."""
        return any(now < entry.until for entry in self._entries.values())

    async def refresh(self) -> None:
        """Read the keys, which renews their TTL; log their changes, and if all of them are gone.

        Raises StoreUnavailable, and RecordUnreadable if another program wrote the registry.
        """
        asked_at = self._clock()
        known = await self._registry.list_all()
        self._unreadable = self._registry.unreadable
        self._serves_until = asked_at + _SERVES_SECONDS
        if known is self._known:
            return
        if self._known and not known and not self._unreadable:
            log.warning(
                "the store lost all API keys: create them anew with `session-service keys create`"
            )
        if self._known is not None and (changes := _changes(self._known, known)):
            log.info("API keys have changed", extra=changes)
        self._known = known
        self._entries = {key_id: _entry_of(key) for key_id, key in known.items()}
        self._found = {}

    async def refresh_forever(self, quarantine: Quarantine) -> None:
        """Read the keys every second. Ends by cancellation."""
        while True:
            with suppress(StoreUnavailable), quarantine.isolating("API key registry", "read"):
                await self.refresh()
            await asyncio.sleep(_POLL_SECONDS)


def _changes(before: dict[str, ApiKey], after: dict[str, ApiKey]) -> dict[str, list[str]]:
    """Return the ids of keys that are new, have another secret, or are revoked now."""
    changes: dict[str, list[str]] = {"new": [], "rotated": [], "revoked": []}
    for key_id, key in after.items():
        known = before.get(key_id)
        if known is None:
            changes["new"].append(key_id)
        elif known.hash != key.hash:
            changes["rotated"].append(key_id)
        if key.revoked_at is not None and (known is None or known.revoked_at is None):
            changes["revoked"].append(key_id)
    return {change: ids for change, ids in changes.items() if ids}


def _entry_of(key: ApiKey) -> _Entry:
    until = math.inf if key.expires_at is None else key.expires_at
    if key.revoked_at is not None:
        until = 0
    previous = None
    if key.previous_hash is not None and key.overlap_until is not None:
        ends = min(until, key.overlap_until)
        previous = _Secret(key.previous_hash, key.credential(int(ends)), ends)
    return _Entry(until, _Secret(key.hash, key.credential(key.expires_at), until), previous)
