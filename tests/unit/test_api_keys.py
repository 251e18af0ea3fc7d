"""API keys: their text, and the options of the commands that make them."""

import os
import re

import pytest

from session_service.domain import api_keys
from session_service.domain.api_keys import (
    MAX_AGENTS,
    hash_of,
    is_key_id,
    new_key,
    new_key_id,
    read_agents,
    read_key_id,
    read_name,
    read_scopes,
)
from session_service.domain.credentials import ALL_PERMISSIONS, Permission
from session_service.domain.errors import ValidationFailed
from tests.support.factories import ID, new_uuid

KEY = "ssk_7k2m9x4q_0mQ8vZt3LrX6bYd1NfHs9KcWp2GuJ5aEo7TiRxB4yVn_a7639d14"


def test_a_key_has_the_documented_form() -> None:
    """A key is ``ssk_<id>_<43 base62>_<8 hex digits>``; its id can be read from it."""
    for _ in range(200):
        key_id = new_key_id(os.urandom)
        key = new_key(key_id, os.urandom)
        assert re.fullmatch(r"ssk_[0-9a-z]{8}_[0-9A-Za-z]{43}_[0-9a-f]{8}", key)
        assert is_key_id(key_id)
        assert read_key_id(key) == key_id


def test_a_key_has_all_the_random_bits() -> None:
    """256 random bits are in the key: other bits, another key."""
    lowest, highest = new_key("7k2m9x4q", bytes), new_key("7k2m9x4q", lambda n: b"\xff" * n)
    assert lowest[13:-9] == "0" * 43
    assert highest[13:-9] == _base62(2**256 - 1)
    assert len({hash_of(new_key("7k2m9x4q", os.urandom)) for _ in range(100)}) == 100


def _base62(number: int) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return (_base62(number // 62) if number >= 62 else "") + digits[number % 62]


def test_the_example_in_the_documentation_is_a_key() -> None:
    """The documented example has the right check digits."""
    assert api_keys.__doc__ is not None
    assert KEY in api_keys.__doc__
    assert read_key_id(KEY) == "7k2m9x4q"


def test_one_wrong_character_is_noticed() -> None:
    """A key with any one character replaced, or cut off, is refused by its check digits."""
    for n in range(len(KEY)):
        for other in "aZ0_":
            if KEY[n] != other:
                assert read_key_id(KEY[:n] + other + KEY[n + 1 :]) is None
        assert read_key_id(KEY[:n]) is None


@pytest.mark.parametrize(
    "text",
    ["", "ssk_", f"{KEY} ", f" {KEY}", KEY.upper(), KEY.replace("_", "-"), "é" * 65, "\ud800" * 65],
)
def test_other_texts_are_no_keys(text: str) -> None:
    """Texts of another form are refused, whatever their characters."""
    assert read_key_id(text) is None


def test_scopes_are_read_from_a_list() -> None:
    """Scopes are separated by commas, with or without spaces."""
    expected = {Permission.SESSIONS_READ, Permission.MESSAGES_AGENT}
    assert read_scopes("sessions:read, messages:agent,") == expected
    assert read_scopes(",".join(ALL_PERMISSIONS)) == ALL_PERMISSIONS


@pytest.mark.parametrize("text", ["", ",", "sessions", "sessions:read,Sessions:Write", "*"])
def test_unknown_scopes_are_refused(text: str) -> None:
    """An unknown scope, or none, is refused with the list of all scopes."""
    with pytest.raises(ValidationFailed, match="--scopes must be one or more of sessions:read, "):
        read_scopes(text)


def test_agents_are_read_from_a_list() -> None:
    """Up to 16 agents are separated by commas; their ids are in lower case."""
    ids = [new_uuid() for _ in range(MAX_AGENTS)]
    assert read_agents(",".join(ids).upper()) == frozenset(ids)
    assert read_agents("") is None


@pytest.mark.parametrize(
    "text", ["support", f"{ID},x", ",".join(f"{ID[:-2]}{n}" for n in range(10, 11 + MAX_AGENTS))]
)
def test_other_agents_are_refused(text: str) -> None:
    """Ids that are no UUIDs, and more than 16, are refused."""
    with pytest.raises(ValidationFailed, match="--agents must be 1 to 16 UUIDs: "):
        read_agents(text)


@pytest.mark.parametrize("text", ["", "  ", "x" * 65, "a\nb", "\x1b[2J"])
def test_names_are_printable(text: str) -> None:
    """A name has 1 to 64 printable characters; space around it does not count."""
    assert read_name(" Übersetzer 1 ") == "Übersetzer 1"
    with pytest.raises(ValidationFailed, match="NAME must be 1 to 64 printable characters"):
        read_name(text)
