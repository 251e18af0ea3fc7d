"""The problem of the embedded store, which only the process that started the store can see."""

import os
from collections.abc import Callable


class Notice:
    """The problem of the embedded store as one sentence, or "" if there is none.

    The supervisor has it from its StoreWatch, and writes it as a line to the standard input of each
    worker, e.g. ``the socket of the embedded store was removed``.
    """

    def __init__(self) -> None:
        self.problem = ""
        self.when_changed: Callable[[str], None] = lambda _: None

    def set(self, problem: str) -> None:
        """Replace the problem; "" once it is solved."""
        self.problem = problem
        self.when_changed(problem)

    def reasons(self) -> list[str]:
        """Return the reasons why the service is degraded: the problem, if there is one."""
        return [self.problem] if self.problem else []

    def read(self, stdin: int) -> bool:
        """Read the supervisor's last line, in a worker; return False if the supervisor ended."""
        lines = os.read(stdin, 65536).decode().splitlines()
        if lines:
            self.set(lines[-1])
        return bool(lines)
