"""Poisoned keys (chaos/poison.py): a few of them in every run, all of them with `make proof`."""

import pytest

from chaos.poison import POISONS, WRONG_TYPES, poison_each, poisoned
from session_service.store.keys import KINDS

FEW = (
    "listing of a wrong type",
    "webhooks of a wrong type",
    "a record of a newer format",
    "an event that is none",
)


def test_every_kind_of_key_is_poisoned() -> None:
    """Every kind of key in store/keys.py is poisoned."""
    assert set(WRONG_TYPES) == set(KINDS)
    assert len(POISONS) >= 30


async def test_a_few_poisoned_keys_affect_nothing_else() -> None:
    """One key of each kind of failure affects nothing else."""
    assert (await poison_each(FEW)).problems == []


@pytest.mark.proof
async def test_all_poisoned_keys_affect_nothing_else() -> None:
    """No key of a wrong type and no garbage in a record affects anything else."""
    assert (await poisoned(len(POISONS))).problems == []
