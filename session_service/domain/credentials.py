"""Credentials: who calls, what they may do, and which sessions exist for them.

The names of the permissions are the scopes of keys and tokens, e.g. ``sessions:read``.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar

from msgspec import Struct

from session_service.domain.errors import NotPermitted


class Permission(StrEnum):
    """A scope: the permission for a group of operations."""

    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    MESSAGES_READ = "messages:read"
    MESSAGES_WRITE = "messages:write"
    MESSAGES_AGENT = "messages:agent"  # to speak as the agent
    EVENTS_READ = "events:read"
    TURNS_WORK = "turns:work"
    WEBHOOKS_ADMIN = "webhooks:admin"
    SESSIONS_ADMIN = "sessions:admin"  # every user's sessions; to end all sessions
    HISTORY_ERASE = "history:erase"
    METRICS_READ = "metrics:read"


ALL_PERMISSIONS = frozenset(Permission)
# Of session tokens, which contain the positions: append, never reorder.
SESSION_TOKEN_PERMISSIONS = (
    Permission.SESSIONS_READ,
    Permission.SESSIONS_WRITE,
    Permission.MESSAGES_READ,
    Permission.MESSAGES_WRITE,
    Permission.EVENTS_READ,
)
USER_PERMISSIONS = frozenset(SESSION_TOKEN_PERMISSIONS)  # of a user whose token does not say

# The id and the name of the key with all scopes that the environment has.
ENVIRONMENT_KEY, ENVIRONMENT_KEY_NAME = "environment", "ELIZA_SERVER_AUTH_TOKEN"


class Kind(StrEnum):
    """The kinds of credentials."""

    OPEN = "open"  # access control is off
    KEY = "key"  # an API key, of a server
    USER = "user"  # a JWT, of a user
    SESSION = "session"  # a session token, of a page


class Credential(Struct, frozen=True, eq=False, kw_only=True):
    """A verified credential. All ids are in lower case.

    ``user``, ``agents`` and ``session`` limit it: all other sessions do not exist for it. None is
    no limit. A JWT with the scope ``sessions:admin`` has no ``user``; its ``id`` still is the
    user's.
    """

    OPEN: ClassVar["Credential"]

    kind: Kind
    id: str  # of the key or, with a JWT, of the user; for a session token that of its minter
    name: str  # for the audit log
    user: str | None = None
    agents: frozenset[str] | None = None
    session: str | None = None
    permissions: frozenset[Permission]
    expires: int | None = None  # epoch milliseconds

    @property
    def is_limited(self) -> bool:
        """Whether there are sessions that do not exist for it."""
        return not (self.user is None and self.agents is None and self.session is None)

    @property
    def is_personal(self) -> bool:
        """Whether all sessions that exist for it are one user's."""
        return not (self.user is None and self.session is None)

    @property
    def owner(self) -> str:
        """Return the party that Idempotency-Keys belong to, e.g. ``key:7Hq2``; "" if it is open."""
        parts = (self.kind, self.id, self.session) if self.session else (self.kind, self.id)
        return "" if self.kind is Kind.OPEN else ":".join(parts)

    @property
    def ends_as(self) -> str | None:
        """Return the ``by`` of a session that it ends: user, server, or None if it is open."""
        if self is Credential.OPEN:
            return None
        return "server" if self.kind is Kind.KEY else "user"

    def require(self, permission: Permission) -> None:
        """Raise NotPermitted unless it has the scope."""
        if permission not in self.permissions:
            raise NotPermitted.for_lack_of(permission)

    def admit_author(self, author_id: str | None) -> None:
        """Raise NotPermitted if it is a user's, and a message is to be another author's."""
        if self.user is not None and author_id not in (None, self.user):
            raise NotPermitted("authorId must be the user of the credential.")

    def admit(self, *, user_id: str | None = None, agent_id: str | None = None) -> None:
        """Raise NotPermitted if a request names another user or agent than it may act for."""
        if user_id is not None and self.user not in (None, user_id):
            raise NotPermitted("userId must be the user of the credential.")
        if agent_id is not None and self.agents is not None and agent_id not in self.agents:
            raise NotPermitted("agentId must be one of the credential's agents.")


Credential.OPEN = Credential(kind=Kind.OPEN, id="", name="", permissions=ALL_PERMISSIONS)


def permissions_of(scopes: Iterable[str]) -> frozenset[Permission]:
    """Return the permissions among scopes; others belong to other services."""
    return ALL_PERMISSIONS.intersection(scopes)
