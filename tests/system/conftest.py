"""Fixtures for services as processes, each test with its own, on its own store."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import ServiceProcess, Start
from tests.support.servers import store_server, valkey_binary


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start services with settings; they end with the test."""
    with ExitStack() as stack:
        numbers = itertools.count(1)

        def start(**settings: str) -> ServiceProcess:
            settings.setdefault("SESSION_DATA_DIR", str(tmp_path / "data"))
            folder = tmp_path / f"service-{next(numbers)}"
            return stack.enter_context(ServiceProcess(folder, **settings))

        yield start


@pytest.fixture
def store_url() -> Iterator[str]:
    """The URL of an empty server that several services share."""
    with store_server(valkey_binary()) as url:
        yield url
