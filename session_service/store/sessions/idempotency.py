"""Idempotency keys: a request that is sent again with its key has the same effect, once.

A key is claimed first, for the request's fingerprint and a random seed; the same request later gets
that seed. A request that is one script then runs through ``ReplayingExecutor``: the script records
its reply in the same atomic step, in a key that is named after the seed, and new ids are drawn from
the seed, too. So a node that dies at any moment leaves either nothing or all that the response is
made of, and no other node has to wait for it. A request in several steps holds a lease meanwhile,
and its response is recorded.
"""

import asyncio
import base64
import hashlib
import io
import itertools
import os
from typing import Any, NamedTuple

import msgspec

from session_service.domain.budgets import KEYS_PER_SESSION
from session_service.domain.errors import TooManyKeys
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import Argument, KeySet, RawReply
from session_service.store.client.script import A, Arguments, R, Script
from session_service.store.keys import Keys
from session_service.store.records import unpack_id
from session_service.store.scripts.idempotency import (
    CLAIM,
    RECORD,
    ClaimArguments,
    Claimed,
    RecordArguments,
)
from session_service.store.scripts.variants import recording_reply

_LEASE_MS = 60_000  # far longer than a request takes; that of a dead node holds up the next try
_NAME_BYTES = 16  # of the seed; the others are for ids
_SEED_BYTES = 32  # 16 for the name, 16 for one new id


class ReplayingExecutor(ScriptExecutor):
    """Runs the scripts of one request, each once; later calls replay its reply.

    ``random(16)`` returns that many bytes for new ids, as ``os.urandom`` does, but the same each
    time the request is made. The first script records its reply in a key such as
    ``session-service:{3f}:idem:5be3…9c:0``: the ``name`` from the seed, and the script's number.
    """

    def __init__(self, executor: ScriptExecutor, keys: Keys, seed: bytes) -> None:
        self.spans_shards = executor.spans_shards
        self.signals = executor.signals
        self._executor = executor
        self._keys = keys
        self.name = seed[:_NAME_BYTES].hex()
        self._numbers = itertools.count()
        self.random = io.BytesIO(seed[_NAME_BYTES:]).read
        self.has_replayed = False

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[RawReply]:
        """Send a script, which replies as it did the first time."""
        name = f"{self.name}:{next(self._numbers)}"
        owner = _owner(arguments)
        keys = self._keys.and_more(keys, outcome=name, tails=owner, used=owner)
        recorded = self._executor.submit(recording_reply(script), keys, arguments)
        return asyncio.get_running_loop().create_task(self._decode(recorded))

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[RawReply]]:
        """Run commands on each master; their replies are not recorded."""
        return await self._executor.run_on_masters(*commands)

    async def close(self) -> None:
        """Do nothing: other requests use the executor below."""

    async def _decode(self, recorded: asyncio.Future[RawReply]) -> RawReply:
        r"""Return the script's own reply from that of lua/record_reply.lua.

        E.g. from ``[b'["expired 1768473045123"]', b""]``, or with a tail from
        ``[b'["2 1768473045123 0 … 1 ", "1768473045123 user 1"]', b"…{}\n"]``. A third element is
        there if the script had replied before.
        """
        json, tail, *replayed = await recorded
        self.has_replayed = bool(replayed)
        reply, *words = msgspec.json.decode(json)
        if reply == "too many keys":
            raise TooManyKeys(KEYS_PER_SESSION)
        if tail:
            return b"".join((reply.encode(), tail, *(each.encode() for each in words)))
        return _as_server_reply(reply)


def _owner(arguments: Arguments) -> str:
    """Return the name under which tails are stored and keys are counted: mostly the session's id.

    It is the same for all requests whose replies can have the same record, so that the record's
    tail is stored once.
    """
    if owner := getattr(arguments, "recorded_for", ""):
        return str(owner)
    packed = getattr(arguments, "session_id", b"")
    return unpack_id(packed) if packed else ""


def _as_server_reply(value: Any) -> RawReply:
    """Convert JSON to the reply that the server would have sent: bytes, lists, numbers, None."""
    match value:
        case str():
            return value.encode()
        case list():
            return [_as_server_reply(each) for each in value]
        case False:
            return None
        case _:
            return value


class Claim(NamedTuple):
    """A key claimed for a request in several steps, and its response if it has been made."""

    keys: KeySet
    seed: bytes
    response: bytes | None


class IdempotencyKeys:
    """Keys, each of which belongs for a day to the request that claims it first.

    A request is identified by its fingerprint, a text that differs between requests. A claim of a
    key for another request raises IdempotencyMismatch.
    """

    def __init__(self, executor: ScriptExecutor, keys: Keys) -> None:
        self._executor = executor
        self._keys = keys

    async def claim(
        self, key: str, fingerprint: str, executor: ScriptExecutor | None = None
    ) -> ReplayingExecutor:
        """Claim a key for a request that is one script; return the executor for it.

        ``executor`` is that of the request, if it has its own: each replay is charged to a limit.
        """
        _, claimed = await self._claim(key, fingerprint)
        seed = base64.b64decode(claimed.seed)
        return ReplayingExecutor(executor or self._executor, self._keys, seed)

    async def claim_with_lease(self, key: str, fingerprint: str) -> Claim:
        """Claim a key for a request in several steps.

        Raises IdempotencyConflict while the same request is being made. Call ``record`` at its
        end; without that, the request can be made again after a minute.
        """
        keys, claimed = await self._claim(key, fingerprint, _LEASE_MS)
        return Claim(keys, claimed.seed, claimed.response)

    async def record(self, claim: Claim, response: bytes = b"") -> None:
        """Record the response to a request; without one, the request can be made again at once."""
        await self._executor.run(RECORD, claim.keys, RecordArguments(claim.seed, response))

    async def _claim(
        self, key: str, fingerprint: str, lease_ms: int | None = None
    ) -> tuple[KeySet, Claimed]:
        name = hashlib.sha256(key.encode()).hexdigest()
        keys = self._keys.one("claim", name[:2], name)
        seed = base64.b64encode(os.urandom(_SEED_BYTES))
        arguments = ClaimArguments(fingerprint, seed, lease_ms)
        return keys, await self._executor.run(CLAIM, keys, arguments)
