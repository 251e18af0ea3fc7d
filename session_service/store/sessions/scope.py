"""The scope of a repository: the executor and the caller that its scripts run for."""

import os
from collections.abc import Callable

from session_service.domain.credentials import Credential
from session_service.store.client.executor import ScriptExecutor
from session_service.store.records import pack_viewer


class Scope:
    """The parts of a repository that differ between requests.

    ``executor`` runs the scripts: for a request with an Idempotency-Key it is one that replays
    their replies. ``random(n)`` returns n bytes for new ids, as ``os.urandom`` does.
    The scripts see only what ``credential`` may see: ``viewer`` has its limits for them.
    """

    __slots__ = ("credential", "executor", "random", "viewer")

    def __init__(
        self,
        executor: ScriptExecutor,
        random: Callable[[int], bytes] = os.urandom,
        credential: Credential = Credential.OPEN,
    ) -> None:
        self.executor = executor
        self.random = random
        self.credential = credential
        self.viewer = pack_viewer(credential)
