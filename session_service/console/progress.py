"""The progress of a command on a terminal."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """A bar on standard error, if that is a terminal on which nothing else is printed."""

    def __init__(self, label: str, *, shown: bool) -> None:
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(
            *columns,
            console=Console(stderr=True),
            disable=not (shown and sys.stderr.isatty()),
            redirect_stdout=False,
        )
        self._bar = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def update(self, completed: int, total: int | None) -> None:
        """Show how many sessions are done, of how many if that is known."""
        self._progress.update(self._bar, completed=completed, total=total and max(completed, total))
