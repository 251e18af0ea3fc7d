"""A request with an Idempotency-Key happens once, and is answered alike each time.

The key is claimed first, with the request's fingerprint and a random seed; the same request later
finds that seed. What is one script then goes through ``Once``: the script remembers its reply in
the same atomic step, under a name from the seed, and new ids are drawn from the seed too. So a node
that dies at any moment leaves either nothing or all that the answer is made of, and nobody has to
wait for it. What takes several steps holds a lease meanwhile, and its answer is kept.
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
from session_service.store.client.protocol import Argument, KeySet
from session_service.store.client.script import A, R, Script
from session_service.store.keys import Keys
from session_service.store.scripts.idempotency import (
    ANSWER,
    CLAIM,
    AnswerArguments,
    ClaimArguments,
    Claimed,
)
from session_service.store.scripts.variants import recording_reply

_LEASE_MS = 60_000  # a request in several steps takes far less; a dead node's keeps others waiting
_NAME_BYTES = 16  # of the seed; the others are for ids
_SEED_BYTES = 32  # as many again as one id takes


class Once(ScriptExecutor):
    """A pipeline for one request, each of whose scripts happens once and remembers its reply.

    ``random`` gives bytes, as ``os.urandom`` does, but the same ones each time. ``name`` stands
    before the numbers of the scripts, in the names of the keys that remember them.
    """

    def __init__(self, executor: ScriptExecutor, keys: Keys, seed: bytes) -> None:
        self.spans_shards = executor.spans_shards
        self.signals = executor.signals
        self._executor = executor
        self._keys = keys
        self.name = seed[:_NAME_BYTES].hex()
        self._numbers = itertools.count()
        self.random = io.BytesIO(seed[_NAME_BYTES:]).read

    def submit(self, script: Script[A, R], keys: KeySet, arguments: A) -> asyncio.Future[Any]:
        """Run a script soon, or look up what it replied."""
        name = f"{self.name}:{next(self._numbers)}"
        session_id = getattr(arguments, "session_id", "")
        keys = self._keys.and_more(keys, outcome=name, tails=session_id, used=session_id)
        remembered = self._executor.submit(recording_reply(script), keys, arguments)
        return asyncio.get_running_loop().create_task(_read(remembered))

    async def run_on_masters(self, *commands: tuple[Argument, ...]) -> dict[str, list[Any]]:
        """Give each master some commands; they are not remembered."""
        return await self._executor.run_on_masters(*commands)

    async def close(self) -> None:
        """Do nothing: the pipeline below is others' too."""


async def _read(remembered: asyncio.Future[Any]) -> Any:
    (reply,) = msgspec.json.decode(await remembered)
    if reply == "too many keys":
        raise TooManyKeys(KEYS_PER_SESSION)
    return _as_replied(reply)


def _as_replied(value: Any) -> Any:
    """Turn what was JSON into what the server would have replied."""
    match value:
        case str():
            return value.encode()
        case list():
            return [_as_replied(each) for each in value]
        case False:
            return None
        case _:
            return value


class Claim(NamedTuple):
    """A key, claimed for a request in several steps; ``answer`` is there once it is kept."""

    keys: KeySet
    seed: bytes
    answer: bytes | None


class Claims:
    """Who claims a key first has it for a day.

    A request is told by its fingerprint, any text that differs where the requests do. Another one
    with the same key is an IdempotencyMismatch.
    """

    def __init__(self, executor: ScriptExecutor, keys: Keys) -> None:
        self._executor = executor
        self._keys = keys

    async def once(self, key: str, request: str) -> Once:
        """Claim a key; return the pipeline for the request, whose every script is atomic."""
        _, claimed = await self._claim(key, request)
        return Once(self._executor, self._keys, base64.b64decode(claimed.seed))

    async def begin(self, key: str, request: str) -> Claim:
        """Claim a key for a request in several steps.

        Raises IdempotencyConflict while the same request is being made. What gets no answer must
        be ended with ``finish``; if that never comes, another try may begin after a minute.
        """
        keys, claimed = await self._claim(key, request, _LEASE_MS)
        return Claim(keys, claimed.seed, claimed.response)

    async def finish(self, claim: Claim, answer: bytes = b"") -> None:
        """Keep the answer to a request; without one it may be made anew."""
        await self._executor.run(ANSWER, claim.keys, AnswerArguments(claim.seed, answer))

    async def _claim(
        self, key: str, request: str, lease_ms: int | None = None
    ) -> tuple[KeySet, Claimed]:
        name = hashlib.sha256(key.encode()).hexdigest()
        keys = self._keys.one("claim", name[:2], name)
        seed = base64.b64encode(os.urandom(_SEED_BYTES))
        arguments = ClaimArguments(request, seed, lease_ms)
        claimed = await self._executor.run(CLAIM, keys, arguments)
        return keys, claimed
