"""Fixtures and the report of the tests of deploy/, which ``make deploy-test`` runs."""

from tests.conftest import certificate, pytest_terminal_summary
from tests.system.conftest import start, store_url

__all__ = ["certificate", "pytest_terminal_summary", "start", "store_url"]
