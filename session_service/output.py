"""The output of commands: aligned columns for people, or JSON for programs (``--json``)."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    sys.stdout.write(f"{text}\n")


def print_json_line(value: Any) -> None:
    """Print a value as JSON on a line of its own, for programs that read line by line."""
    sys.stdout.write(f"{msgspec.json.encode(value).decode()}\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Mapping[str, str] | None = None,
) -> None:
    """Print rows under the names of their columns, e.g. ``ID`` and ``STATE``.

    On a terminal, long cells are folded to its width, and ``styles`` has the colours of some, e.g.
    ``{"error": "bold red"}``. Elsewhere a row is a line, which programs such as grep read.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        terminal = importlib.import_module("session_service.terminal")
        terminal.print_folded(columns, cells, styles or {})
        return
    lines = [list(columns), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")


def discard_output() -> None:
    """Print nothing more, because the reader of the output has read enough, as ``head`` has."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """Escape characters with which a text could control a terminal, e.g. ``\\x1b``."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
