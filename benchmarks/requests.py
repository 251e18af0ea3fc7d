"""Single requests to the service of a population, and how long each takes."""

import json
import random
from contextlib import ExitStack
from typing import Self

from benchmarks.load import ONE, SESSIONS, Connection, new_session
from benchmarks.population import Population

SHORT = ("GET", "DELETE", "heartbeat")
# Each reads all shards, so it is sampled less often.
LONG = ("first list page", "list by user", "health")
OPERATIONS = (*SHORT, *LONG)


class Requester:
    """A connection for one request at a time."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(Connection(population.port))
        self._users = [self._user_of(random.choice(population.ids)) for _ in range(200)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def time(self, operation: str) -> float:
        """Do an operation once; return the seconds. An ended session is replaced by a new one."""
        ids = self._population.ids
        place = random.randrange(len(ids))
        one = ONE.replace("{}", ids[place])
        method, path = {
            "GET": ("GET", one),
            "DELETE": ("DELETE", one),
            "heartbeat": ("POST", f"{one}/heartbeat"),
            "first list page": ("GET", SESSIONS),
            "list by user": ("GET", f"{SESSIONS}?userId={random.choice(self._users)}"),
            "health": ("GET", f"{SESSIONS}/health"),
        }[operation]
        _, seconds = self._connection.expect(method, path)
        if operation == "DELETE":
            body, _ = self._connection.expect("POST", SESSIONS, new_session())
            ids[place] = json.loads(body)["sessionId"]
        return seconds

    def _user_of(self, session_id: str) -> str:
        body, _ = self._connection.expect("GET", ONE.replace("{}", session_id))
        return str(json.loads(body)["userId"])
