"""Access control for tests: an authenticator that knows a few credentials by name.

With it, ``X-API-KEY: all`` is a key with all scopes, and ``Authorization: Bearer ann`` the token of
the user ANN.
"""

import time
from typing import Any

from msgspec.structs import replace

from session_service.access.authenticator import Authenticator
from session_service.domain.credentials import (
    ALL_PERMISSIONS,
    USER_PERMISSIONS,
    Credential,
    Kind,
    Permission,
)
from session_service.domain.errors import StoreUnavailable
from tests.support.api import SESSIONS, Client

ANN = "a1111111-1111-4111-8111-111111111111"
BOB = "b2222222-2222-4222-8222-222222222222"
AGENT = "c3333333-3333-4333-8333-333333333333"
OTHER_AGENT = "d4444444-4444-4444-8444-444444444444"


def key(name: str, agents: frozenset[str] | None = None, *without: Permission) -> Credential:
    """Return the credential of an API key with all scopes but some."""
    permissions = ALL_PERMISSIONS.difference(without)
    return Credential(kind=Kind.KEY, id=name, name=name, agents=agents, permissions=permissions)


def expiring(credential: Credential, seconds: float) -> Credential:
    """Return a credential that expires after a number of seconds."""
    return replace(credential, expires=time.time_ns() // 1_000_000 + int(1000 * seconds))


def user(user_id: str) -> Credential:
    """Return the credential of a user's JWT."""
    return Credential(
        kind=Kind.USER, id=user_id, name=user_id, user=user_id, permissions=USER_PERMISSIONS
    )


def page(session_id: str, user_id: str, minter: str = "all") -> Credential:
    """Return the credential of a session token; ``minter`` is the id of a key or a user."""
    return Credential(
        kind=Kind.SESSION,
        id=minter,
        name=minter,
        user=user_id,
        session=session_id,
        permissions=USER_PERMISSIONS,
    )


class KnownCredentials(Authenticator):
    """Finds credentials by their names, and verifies others; tests add others to ``known``."""

    def __init__(self, **verifiers: Any) -> None:
        super().__init__(**verifiers)
        self.revoked: set[str] = set()  # ids
        self.is_outage = False
        self.known: dict[str, Credential] = {
            "all": key("all"),
            "reader": key("reader", None, Permission.SESSIONS_WRITE, Permission.MESSAGES_WRITE),
            "mute": key("mute", None, Permission.MESSAGES_AGENT),
            "bound": key("bound", frozenset((AGENT,))),
            "other-bound": key("other-bound", frozenset((OTHER_AGENT,))),
            "ann": user(ANN),
            "bob": user(BOB),
        }

    async def identify(self, text: str | None) -> Credential:
        """Return the credential of that name; raises NotAuthenticated, StoreUnavailable."""
        if self.is_outage:
            raise StoreUnavailable("an outage")
        return self.known[text] if text in self.known else await super().identify(text)

    def is_valid(self, credential: Credential, now: int) -> bool:
        """Return whether it has neither expired nor been revoked; raises StoreUnavailable."""
        if self.is_outage:
            raise StoreUnavailable("an outage")
        if credential not in self.known.values():
            return super().is_valid(credential, now)
        is_expired = credential.expires is not None and credential.expires <= now
        return not is_expired and credential.id not in self.revoked


def by(name: str) -> dict[str, str]:
    """Return the header fields of a request with the credential of that name."""
    return {"X-API-KEY": name}


async def create(client: Client, user: str = ANN, agent: str = AGENT, **fields: Any) -> str:
    """Create a session by a key with all scopes; return its id."""
    body = {"userId": user, "agentId": agent, **fields}
    async with client.post(SESSIONS, json=body, headers=by("all")) as response:
        assert response.status == 201
        session_id: str = (await response.json())["sessionId"]
        return session_id
