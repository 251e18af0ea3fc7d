"""Fixtures and the report of the tests of deploy/, which ``make deploy-test`` runs."""

from tests.conftest import pytest_terminal_summary
from tests.system.conftest import start, store_url

__all__ = ["pytest_terminal_summary", "start", "store_url"]
