"""Notes on standard error about the connection of a stream."""

import sys

from session_service.client import SessionServiceError
from session_service.output import printable


class ConnectionNotes:
    """The ``on_connection`` of a stream: says once that it is lost, and once that it is back."""

    def __init__(self) -> None:
        self._was_lost = False

    def __call__(self, failure: SessionServiceError | None) -> None:
        """Print a note; there is none for the first connection."""
        if failure is not None:
            sys.stderr.write(f"lost the connection: {printable(str(failure))}; trying again\n")
        elif self._was_lost:
            sys.stderr.write("connected again\n")
        self._was_lost = failure is not None
        sys.stderr.flush()
