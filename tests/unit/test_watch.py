"""Credentials of open connections are watched until they end."""

import asyncio
import time
from collections.abc import Callable

import pytest

from session_service.access.authenticator import Authenticator
from session_service.access.watch import Watch
from session_service.domain.credentials import Credential
from session_service.domain.errors import StoreUnavailable
from tests.support.access import ANN, expiring, key, page, user
from tests.support.waiting import wait_until

SESSION = "3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836"


class Known:
    """Tells whether credentials are valid."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.is_outage = False

    def is_valid(self, credential: Credential, now: int) -> bool:
        if self.is_outage:
            raise StoreUnavailable("an outage")
        return credential.id not in self.revoked and Authenticator().is_valid(credential, now)


class Ends(list[bool]):
    """The calls of an ``end``."""

    def new(self) -> Callable[[bool], None]:
        def end(has_ended: bool) -> None:
            self.append(has_ended)

        return end


async def test_an_expiry_ends_what_is_open() -> None:
    """Each connection of a credential ends when it expires, once; others stay."""
    watch, ends, others = Watch(Known()), Ends(), Ends()
    short = expiring(user(ANN), 0.1)
    watch.add(user(ANN), others.new())
    for _ in range(2):
        watch.add(short, ends.new())
    await wait_until(lambda: ends == [True, True])
    await asyncio.sleep(0)
    assert (ends, others) == ([True, True], [])


async def test_a_revocation_ends_what_is_open() -> None:
    """A revocation is noticed within the interval of checks, also if nothing expires."""
    access, ends, closed = Known(), Ends(), Ends()
    watch, credential = Watch(access), key("all")
    end = closed.new()
    watch.add(credential, end)
    watch.add(credential, ends.new())
    watch.discard(credential, end)
    access.revoked.add("all")
    await wait_until(lambda: ends == [True])
    assert closed == []


async def test_an_outage_ends_what_is_open() -> None:
    """If nobody can tell whether a credential is valid, nothing goes on with it."""
    access, ends = Known(), Ends()
    watch = Watch(access)
    watch.add(key("all"), ends.new())
    access.is_outage = True
    await wait_until(lambda: ends == [False])


async def test_a_defect_of_one_does_not_keep_others_open() -> None:
    """An ``end`` that fails is not called again, and all others are."""
    asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
    access, ends = Known(), Ends()
    watch, credential = Watch(access), key("all")

    def defect(_: bool) -> None:
        raise ValueError

    watch.add(credential, defect)
    watch.add(credential, ends.new())
    access.revoked.add("all")
    await wait_until(lambda: ends == [True])


class Keys:
    """API keys, of which one is revoked."""

    def find(self, _: str, __: int) -> Credential | None:
        return None

    def is_revoked(self, key_id: str, _: int) -> bool:
        return key_id == "revoked"


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (key("valid"), True),
        (key("revoked"), False),
        (key("environment"), True),
        (user(ANN), True),
        (expiring(user(ANN), -1), False),
        (expiring(key("valid"), 86_400), True),
        (page(SESSION, ANN, "valid"), True),
        (page(SESSION, ANN, "revoked"), False),
        (page(SESSION, ANN, "environment"), True),
        (page(SESSION, ANN, ANN), True),
    ],
)
def test_which_credentials_are_still_valid(credential: Credential, *, expected: bool) -> None:
    """Keys end by revocation, and session tokens with the key that minted them; all by expiry."""
    keys = Keys()
    assert Authenticator(keys=keys).is_valid(credential, time.time_ns() // 1_000_000) is expected
