"""Measure the CPU time that access control adds to a request; fail if it is too much.

    python -m benchmarks.access [--rounds 10] [--seconds 2]

Two services share a store: one without access control, one with it. A GET and a DELETE are
measured in turn, in an order that rotates: without a credential on the one, and on the other with
an API key, with an API key bound to an agent, and with a JWT that is remembered. The difference to
the first is taken within a round. A request is over budget if the lower bound of the 95 % interval
of its difference is above 2.5 µs (access, "Proof").
"""

import argparse
import random
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from benchmarks import report
from benchmarks.against import Difference
from benchmarks.contest import DELETE, GET, Operation
from benchmarks.load import NO_WRK, WRK, Load, create_sessions, measure, session_of
from benchmarks.processes import ROOT, Server, end_on_sigterm, service, store, variables
from benchmarks.report import say
from tests.support.jwts import AUDIENCE, ISSUER, SECRET, token

BUDGET_US = 2.5

_SESSIONS = 20_000  # for GET
_ENDED = 50_000  # per second; no core handles more
_DELETE_SECONDS = 1  # each DELETE needs a session, and creating one takes longer
_SCOPES = "sessions:read,sessions:write"
_USER, _AGENT = str(uuid.uuid4()), str(uuid.uuid4())


class Caller(NamedTuple):
    """A credential, as the header lines of its requests, and the service that they go to."""

    name: str
    server: Server
    fields: Mapping[str, str]


def main() -> int:
    options = _options()
    end_on_sigterm()
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with ExitStack() as stack:
        plain, *others = callers = _start(stack)
        kept = create_sessions(plain.server.port, _SESSIONS, body=_body)
        ended: list[str] = []
        for server in {caller.server.pid: caller.server for caller in callers}.values():
            server.rest()
        for number in range(-1, options.rounds):
            say(f"round {number + 1} of {options.rounds}" if number >= 0 else "warming up")
            first = number % len(callers)
            took = {}
            for caller in (*callers[first:], *callers[:first]):
                random.shuffle(kept)
                took[GET, caller.name] = _measure(caller, GET, kept, options.seconds)
                with plain.server.awake() as port:
                    missing = _ENDED * _DELETE_SECONDS - len(ended)
                    ended += create_sessions(port, missing, body=_body)
                took[DELETE, caller.name] = _measure(caller, DELETE, ended, _DELETE_SECONDS)
            if number >= 0:
                for other in others:
                    for operation in (GET, DELETE):
                        pair = took[operation, plain.name], took[operation, other.name]
                        pairs[f"{operation.name}, {other.name}"].append(pair)
    found = [Difference.of(name, each, BUDGET_US) for name, each in sorted(pairs.items())]
    print(f"\n{report.machine()}\n\nCPU time of the service per request in µs")
    head = ("", "without", "with", "difference", "95 % interval", "budget", "verdict")
    report.print_table(head, [each.cells() for each in found])
    if not WRK:
        print(f"\nNote: {NO_WRK}")
    return 0 if all(each.is_within for each in found) else 1


def _start(stack: ExitStack) -> tuple[Caller, ...]:
    """Start a store and the services; return the callers, first the one without a credential."""
    store_url = stack.enter_context(store())
    settings = {"SESSION_MAX_PER_USER": "0"}
    access = {
        "AUTH": "on",
        "JWT_SECRET": SECRET,
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
    }
    key = _new_key(store_url)
    bound = _new_key(store_url, "--agents", _AGENT)
    jwt = token(sub=_USER, exp=int(time.time()) + 24 * 3600)
    off = stack.enter_context(service(store_url, name="off", **settings))
    on = stack.enter_context(service(store_url, name="on", **settings, **access))
    _ = on.port  # it listens now
    return (
        Caller("none", off, {}),
        Caller("API key", on, {"X-API-KEY": key}),
        Caller("API key of an agent", on, {"X-API-KEY": bound}),
        Caller("JWT", on, {"Authorization": f"Bearer {jwt}"}),
        # The share of the header line itself, which the server reads in any case.
        Caller("API key, without access control", off, {"X-API-KEY": key}),
    )


def _new_key(store_url: str, *options: str) -> str:
    """Create an API key by the command, and return it."""
    command = ("keys", "create", "bench", "--scopes", _SCOPES, *options)
    return subprocess.run(
        (sys.executable, "-m", "session_service", *command),
        cwd=ROOT,
        env=variables({"REDIS_URL": store_url, "AUTH": "on"}),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _measure(caller: Caller, operation: Operation, lines: list[str], seconds: int) -> float:
    """Put load on a service; return its CPU time per request in microseconds.

    The sessions that a DELETE ends are removed from ``lines``.
    """
    load = Load(operation.method, operation.path, lines, caller.fields)
    with caller.server.awake() as port:
        used = caller.server.cpu_seconds
        result = measure(port, load, seconds=seconds)
        used = caller.server.cpu_seconds - used
    if result.errors:
        raise RuntimeError(f"{operation.name}, {caller.name}: {result.errors} requests failed")
    if operation is DELETE:
        del lines[: result.sent]
    return used / result.requests * 1e6


_body = partial(session_of, _USER, _AGENT)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=2, help="of each run of the load")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
