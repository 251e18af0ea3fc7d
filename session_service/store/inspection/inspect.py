"""Reads the state and the configuration of the store, and finds the risks for sessions in them.

``read`` asks every master; ``inspect`` summarises the replies for health, the log and the start.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from session_service.domain.budgets import STORE_FULL_SHARE
from session_service.domain.errors import StoreUnavailable
from session_service.domain.findings import Finding, error, warning
from session_service.store.client.executor import ScriptExecutor, error_code
from session_service.store.client.protocol import Argument
from session_service.store.client.script import NO_ARGUMENTS
from session_service.store.keys import Keys
from session_service.store.scripts.dataset import PROBE, Trial

_OLDEST = (6, 2)
_WITH_WAITAOF = (7, 2)
# Sections of INFO; Redis 6.2 takes one at a time.
_CHANGING = ("memory", "stats", "persistence", "replication")
_FIXED = ("server",)
_SHARD = "00"  # for trying commands: the nodes of a cluster have the same users
# The commands that are run outside of scripts, in a form that changes nothing.
_DIRECT: tuple[tuple[Argument, ...], ...] = (("PING",), ("SCRIPT", "LOAD", PROBE.source))
_ACKNOWLEDGING: dict[str, tuple[tuple[Argument, ...], ...]] = {
    "none": (),
    "replica": (("WAIT", 0, 1),),
    "fsync": (("WAITAOF", 0, 0, 1),),
}

MORE_MEMORY = "give the store more memory (maxmemory, or SESSION_DATA_MAX_MEMORY)"
MAKE_ROOM = "make room on the store's disk; its log has the cause"

# "this user has no permissions to run the 'client|setname' command"
_NAMED = re.compile(r"permissions? to run the '([a-z|]+)' command")


class Reading(NamedTuple):
    """The facts that one master reports about itself."""

    facts: dict[str, str]  # of INFO, e.g. {"maxmemory": "0"}; also ``save`` if CONFIG is allowed
    clock: float | None  # seconds that its clock is ahead of the event loop's
    missing: tuple[str, ...]  # those of the commands above that the user may not run

    def number(self, name: str) -> int:
        """Return a fact as a number, e.g. ``evicted_keys``; 0 if the master does not report it."""
        digits = re.match(r"\d+", self.facts.get(name, ""))
        return int(digits[0]) if digits else 0

    @property
    def version(self) -> tuple[int, ...]:
        """The Redis version, or the one that Valkey is compatible with, e.g. ``(7, 2)``."""
        return tuple(map(int, re.findall(r"\d+", self.facts.get("redis_version", ""))[:2]))


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the store at the last reading."""

    server: str  # e.g. Valkey 9.0.1
    topology: str  # e.g. one server, 2 replicas
    has_replicas: bool  # each master has at least one
    policy: str  # maxmemory-policy; empty if it is unknown
    persistence: str  # append-only file, snapshots, none, or unknown
    used_memory: int  # bytes of the fullest master that count towards its limit
    max_memory: int  # bytes of the same master; 0: no limit
    epoch: str  # of the data set; a store that lost its data has a new one; or empty
    missing: tuple[str, ...]  # commands that the user may not run, e.g. XGROUP CREATE
    warnings: tuple[Finding, ...]  # risks for sessions
    failing: tuple[Finding, ...]  # operations that fail at the moment
    problem: Finding | None  # the reason why it cannot be used at all, e.g. its age
    acknowledges_fsync: bool  # WAITAOF works on every server: there is an append-only file


async def read(
    executor: ScriptExecutor, *, all_facts: bool, may_configure: bool = True
) -> dict[str, Reading]:
    """Read the changing facts of each master, or all facts; raises StoreUnavailable.

    CONFIG is asked only if the user ``may_configure``: managed services do not have it.
    """
    sections = (*_CHANGING, *_FIXED) if all_facts else _CHANGING
    commands: list[tuple[Argument, ...]] = [("TIME",), *(("INFO", each) for each in sections)]
    if may_configure:
        commands.append(("CONFIG", "GET", "save"))
    now = asyncio.get_running_loop().time
    asked_at = now()
    replies = await executor.run_on_masters(*commands)
    between = (asked_at + now()) / 2
    return {name: _reading(commands, each, between) for name, each in replies.items()}


def _reading(commands: list[tuple[Argument, ...]], replies: list[Any], asked_at: float) -> Reading:
    facts: dict[str, str] = {}
    clock, missing = None, []
    for (command, *_), reply in zip(commands, replies, strict=True):
        if isinstance(reply, StoreUnavailable) and error_code(reply.reason) != "NOPERM":
            raise reply
        if isinstance(reply, Exception):
            if command in ("TIME", "INFO"):
                missing.append(str(command))
        elif command == "TIME":
            clock = int(reply[0]) + int(reply[1]) / 1e6 - asked_at
        elif command == "CONFIG":
            facts |= {"save": bytes(reply[1]).decode()} if len(reply) == 2 else {}
        else:
            text = bytes(reply).decode(errors="replace")
            facts |= dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return Reading(facts, clock, tuple(dict.fromkeys(missing)))


async def try_commands(executor: ScriptExecutor, keys: Keys, write_ack: str) -> Trial:
    """Try the commands of the service, among them a write; return the result.

    ``write_ack`` is the setting. Raises StoreUnavailable if a command fails for another reason than
    a missing permission or, in case of the write, the state of the server.
    """
    direct = _DIRECT + _ACKNOWLEDGING[write_ack]
    missing: list[str] = []
    refusal = ""
    for replies in (await executor.run_on_masters(*direct)).values():
        for reply in replies:
            if isinstance(reply, Exception) and (named := command_named(_error_text(reply))):
                missing.append(named)
            elif isinstance(reply, StoreUnavailable):
                raise reply
    try:
        probe_keys = keys.of_shard(PROBE.keys, _SHARD)
        trial = await executor.run(PROBE, probe_keys, NO_ARGUMENTS)
        missing += trial.missing
        refusal = error_code(trial.refusal)
    except ResponseError as failed:  # the server is no store, e.g. a Sentinel
        raise StoreUnavailable(str(failed)) from failed
    except StoreUnavailable as failed:
        if error_code(failed.reason) != "NOPERM":
            raise
        # If it is not about a command, it is about the keys, which have a prefix.
        missing.append(command_named(failed.reason) or "keys that start with SESSION_KEY_PREFIX")
    return Trial(refusal, tuple(dict.fromkeys(missing)))


def _error_text(failed: Exception) -> str:
    return failed.reason if isinstance(failed, StoreUnavailable) else str(failed)


def command_named(text: str) -> str:
    """Return the command that an error names as not permitted, or "" if it names none.

    E.g. ``CLIENT SETNAME`` of ``NOPERM User app has no permissions to run the 'client|setname' …``.
    """
    named = _NAMED.search(text)
    return named[1].replace("|", " ").upper() if named else ""


def inspect(
    readings: Mapping[str, Reading], kind: str, missing: tuple[str, ...] = (), epoch: str = ""
) -> Inspection:
    """Summarise the readings of all masters; ``kind`` is that of the store's URL."""
    masters = list(readings.values())
    fullest = max(
        masters, key=lambda master: _counted_memory(master) / (master.number("maxmemory") or 1e18)
    )
    policies = dict.fromkeys(master.facts.get("maxmemory_policy", "") for master in masters)
    return Inspection(
        server=_name(masters[0]),
        topology=_topology(masters, kind),
        has_replicas=all(master.number("connected_slaves") for master in masters),
        policy=next((each for each in policies if each != "noeviction"), "noeviction"),
        persistence=_persistence(masters[0]),
        used_memory=_counted_memory(fullest),
        max_memory=fullest.number("maxmemory"),
        epoch=epoch,
        missing=missing,
        warnings=tuple(dict.fromkeys(risk for master in masters for risk in _risks(master))),
        failing=tuple(dict.fromkeys(each for master in masters for each in _failing(master))),
        problem=next(filter(None, map(_problem, masters)), None),
        acknowledges_fsync=all(
            master.facts.get("aof_enabled") == "1" and master.version >= _WITH_WAITAOF
            for master in masters
        ),
    )


def _counted_memory(master: Reading) -> int:
    """Return the bytes that count towards maxmemory."""
    return master.number("used_memory") - master.number("mem_not_counted_for_evict")


def _name(master: Reading) -> str:
    """Return the server's name; Valkey also reports the Redis version it is compatible with."""
    if "valkey_version" in master.facts:
        return f"Valkey {master.facts['valkey_version']}"
    return f"Redis {master.facts.get('redis_version', 'of unknown version')}"


def _topology(masters: list[Reading], kind: str) -> str:
    if kind == "cluster":
        return f"cluster of {len(masters)} master{'s' * (len(masters) != 1)}"
    replicas = masters[0].number("connected_slaves")
    name = "Sentinel group" if kind == "sentinel" else "one server"
    return f"{name}, {replicas} replica{'s' * (replicas != 1)}" if replicas else name


def _persistence(master: Reading) -> str:
    if master.facts.get("aof_enabled") == "1":
        return "append-only file"
    save = master.facts.get("save")
    return "unknown" if save is None else "snapshots" if save else "none"


def _risks(master: Reading) -> Iterator[Finding]:
    policy = master.facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        evicted = master.number("evicted_keys")
        yield error(
            "eviction",
            f"the store's maxmemory-policy is {policy}: when it is full it throws sessions away,"
            " all of whose keys have a TTL; noeviction refuses new ones instead"
            + (f". It has evicted {evicted:,} keys since it started" if evicted else ""),
            "set maxmemory-policy noeviction in the store's configuration",
        )
    if _persistence(master) == "none":
        yield error(
            "persistence",
            "the store does not write to disk: its restart loses all sessions",
            "set appendonly yes in the store's configuration",
        )
    limit = master.number("maxmemory")
    if limit and _counted_memory(master) >= STORE_FULL_SHARE * limit:
        yield warning(
            "store-memory",
            f"the store uses {_counted_memory(master) / limit:.0%} of its maxmemory of"
            f" {limit / 2**20:,.0f} MiB",
            MORE_MEMORY,
        )


def _failing(master: Reading) -> Iterator[Finding]:
    if master.facts.get("role") == "slave":
        yield error(
            "replica",
            "the store is a replica: it refuses all changes",
            "set REDIS_URL to its master, or use redis+sentinel://, which finds it",
        )
    limit = master.number("maxmemory")
    if (
        limit
        and _counted_memory(master) >= limit
        and master.facts.get("maxmemory_policy") == "noeviction"
    ):
        yield error(
            "store-full",
            f"the store is full (maxmemory is {limit / 2**20:,.0f} MiB): it refuses new data",
            MORE_MEMORY,
        )
    if master.facts.get("aof_last_write_status", "ok") != "ok":
        yield error("store-disk", "the store cannot write its append-only file", MAKE_ROOM)
    snapshots = master.facts.get("save") != ""
    if snapshots and master.facts.get("rdb_last_bgsave_status", "ok") != "ok":
        yield error("store-disk", "the store's last snapshot failed", MAKE_ROOM)


def _problem(master: Reading) -> Finding | None:
    if master.version and master.version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return error(
            "store-version",
            f"the store is {_name(master)}; it must be Redis {oldest} or later, or Valkey",
            "upgrade the store",
        )
    return None
