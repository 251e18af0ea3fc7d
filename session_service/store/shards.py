"""Runs a script on many shards, in few calls; a shard that fails does not stop the others."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

from session_service.domain.errors import StoreUnavailable
from session_service.domain.ids import SHARDS
from session_service.store.client.executor import ScriptExecutor
from session_service.store.client.protocol import KeySet
from session_service.store.client.script import A, R, Script
from session_service.store.keys import Keys
from session_service.store.quarantine import Quarantine

T = TypeVar("T")


class _Group(NamedTuple):
    """The shards of one call, and their keys."""

    shards: tuple[str, ...]
    keys: KeySet


class ShardGroups(Generic[A, R]):
    """Runs a script on shards: ``together`` of them in one call, or one if the store is a cluster.

    The call has the keys of all its shards if the script is declared for ``many_shards``. Otherwise
    it has those of the first, and the script makes the names of the others from its arguments.

    If a call fails, e.g. because a key has the wrong type, its shards are run again one by one, and
    the one that fails goes to the quarantine. It is retried in a call of its own when its pause is
    over. ``shards`` are the default of ``run``.
    """

    def __init__(
        self,
        executor: ScriptExecutor,
        keys: Keys,
        script: Script[A, R],
        quarantine: Quarantine,
        *,
        together: int = 1,
        shards: Sequence[str] = SHARDS,
    ) -> None:
        self._executor = executor
        self._keys = keys
        self._script = script
        self._quarantine = quarantine
        self._size = together if executor.spans_shards else 1
        self._shards = shards

    @cached_property
    def _default(self) -> list[_Group]:
        return self._grouped(self._shards)  # takes 0.5 ms, and most are made for a rare operation

    async def run(
        self,
        arguments: A | Callable[[Sequence[str]], A],
        read: Callable[[Sequence[str], R], T],
        shards: Sequence[str] | None = None,
    ) -> list[T]:
        """Run the script; return the result of ``read(shards, reply)`` for each call.

        ``arguments`` may be a function of the shards of a call. The result lacks the shards that
        fail, and those for whose reply ``read`` raises; ``read`` may get a shard again after that.
        Raises StoreUnavailable if any call does.
        """
        groups = self._default if shards is None else self._grouped(shards)
        if not self._quarantine.is_empty:
            groups = self._without_failing(groups)
        results, failed = await self._run(groups, arguments, read)
        divisible = [group for group, _ in failed if len(group.shards) > 1]
        if divisible:
            alone = [self._group((shard,)) for group in divisible for shard in group.shards]
            rest, again = await self._run(alone, arguments, read)
            results += rest
            failed = [each for each in failed if len(each[0].shards) == 1] + again
        for group, error in failed:
            self._quarantine.failed(_subject(group.shards[0]), self._script.name, error)
        return results

    async def _run(
        self,
        groups: Iterable[_Group],
        arguments: A | Callable[[Sequence[str]], A],
        read: Callable[[Sequence[str], R], T],
    ) -> tuple[list[T], list[tuple[_Group, Exception]]]:
        """Return the results, and the groups that failed."""
        groups = list(groups)
        replies = await asyncio.gather(
            *(
                self._executor.submit(
                    self._script,
                    group.keys,
                    arguments(group.shards) if callable(arguments) else arguments,
                )
                for group in groups
            ),
            return_exceptions=True,
        )
        results: list[T] = []
        failed: list[tuple[_Group, Exception]] = []
        for group, reply in zip(groups, replies, strict=True):
            try:
                if isinstance(reply, BaseException):
                    raise reply
                results.append(read(group.shards, self._script.reply(reply)))
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - a shard that fails must not stop the others
                failed.append((group, error))
            else:
                self._succeeded(group)
        return results, failed

    def _succeeded(self, group: _Group) -> None:
        if len(group.shards) == 1 and not self._quarantine.is_empty:
            self._quarantine.succeeded(_subject(group.shards[0]), self._script.name)

    def _without_failing(self, groups: Iterable[_Group]) -> list[_Group]:
        """Remove the shards that are paused, and give those that failed before their own calls."""
        task = self._script.name
        kept: list[_Group] = []
        for group in groups:
            failing = [s for s in group.shards if self._quarantine.is_failing(_subject(s), task)]
            if not failing:
                kept.append(group)
                continue
            if sound := tuple(s for s in group.shards if s not in failing):
                kept.append(self._group(sound))
            kept += [
                self._group((shard,))
                for shard in failing
                if not self._quarantine.must_wait(_subject(shard), task)
            ]
        return kept

    def _grouped(self, shards: Sequence[str]) -> list[_Group]:
        parts = (shards[n : n + self._size] for n in range(0, len(shards), self._size))
        return [self._group(tuple(part)) for part in parts]

    def _group(self, shards: tuple[str, ...]) -> _Group:
        names = self._script.keys
        if len(shards) == 1 or not self._script.many_shards:  # these are cached
            return _Group(shards, self._keys.of_shard(names, shards[0]))
        return _Group(shards, self._keys.of_shards(names, shards))


def _subject(shard: str) -> str:
    return f"shard {shard}"
