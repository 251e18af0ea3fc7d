"""Changes of metadata have the effect of RFC 7396 at the top level (contract, "Metadata")."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_service.composition import open_store
from session_service.domain.errors import ValidationFailed
from session_service.store.sessions.repository import SessionRepository
from tests.model.test_rules import SETTINGS
from tests.support.factories import create_session

# Names and texts full of the characters that JSON is made of, and of those that it escapes.
TEXTS = st.text(st.sampled_from('"\\{}[]:,_/ab\n\0\x7fü𝄞'), max_size=6) | st.text(max_size=6)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**40)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["a", "b", '"', "\\", '\\"', "}", "a:b", "", "ü"]) | TEXTS
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)


@settings(max_examples=100, deadline=None)
@given(metadata=OBJECTS, patches=st.lists(OBJECTS, max_size=4))
def test_a_change_is_a_merge_at_the_top_level(
    metadata: dict[str, Any], patches: list[dict[str, Any]]
) -> None:
    """After each change the stored JSON is, byte for byte, that of Python's own merge."""
    asyncio.run(compare(metadata, patches))


async def compare(metadata: dict[str, Any], patches: list[dict[str, Any]]) -> None:
    async with open_store(SETTINGS) as store:
        repository = store.repository
        session = await create_session(repository, metadata=msgspec.json.encode(metadata))
        expected = dict(metadata)
        for patch in patches:
            merge(expected, patch)
            changed = await repository.change_metadata(session.id, msgspec.json.encode(patch))
            assert changed.metadata == msgspec.json.encode(expected)
            assert (await repository.get(session.id)).metadata == changed.metadata


def merge(metadata: dict[str, Any], patch: dict[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            metadata.pop(name, None)
        else:
            metadata[name] = value


@pytest.mark.parametrize("room", [0, 1])
async def test_the_limit_holds_for_the_result(repository: SessionRepository, room: int) -> None:
    """A result of 10,240 bytes is stored; one more byte is refused, and changes nothing."""
    half = b'{"a":"' + b"x" * 5000 + b'"}'
    session = await create_session(repository, metadata=half)
    size = 10_240 - len(half) - len(b',"b":""')
    patch = b'{"b":"' + b"y" * (size + room) + b'"}'
    if room == 0:
        changed = await repository.change_metadata(session.id, patch)
        assert len(changed.metadata) == 10_240
    else:
        with pytest.raises(ValidationFailed, match=r"at most 10,240 bytes .* would have 10,241"):
            await repository.change_metadata(session.id, patch)
        assert (await repository.get(session.id)).metadata == half
