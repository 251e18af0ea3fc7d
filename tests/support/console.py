"""Runs commands of the program in this process, against a service of the test."""

import asyncio
import json
from typing import Any, NamedTuple

import pytest

from session_service import cli


class Output(NamedTuple):
    """The exit code of a command, and its output."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """The decoded lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


class Console:
    """Runs commands with the address of a service: ``await console("sessions", "list")``."""

    def __init__(self, port: int | None, captured: pytest.CaptureFixture[str]) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._captured = captured

    async def __call__(self, *arguments: str, url: str = "") -> Output:
        """Run a command in a thread, because it has an event loop of its own."""
        self._captured.readouterr()
        address = [] if "--url" in arguments else ["--url", url or self._url]
        code = await asyncio.to_thread(cli.main, [*arguments, *address])
        return Output(code, *self._captured.readouterr())
