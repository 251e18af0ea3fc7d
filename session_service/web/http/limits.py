"""Limits on requests: each request costs one, of its user, of its API key or of its address."""

from typing import Protocol

from session_service.domain.credentials import Credential, Kind
from session_service.domain.rates import Standing
from session_service.store.client.executor import ScriptExecutor
from session_service.store.limits.leases import KeyLimit
from session_service.store.limits.users import ChargingExecutor, UserLimit
from session_service.web.http.address_limit import AddressLimit

LIMIT_FIELDS = ("RateLimit", "RateLimit-Policy")


class Charge(Protocol):
    """The cost of one request. ``standing`` is what is left, or None if that is not known."""

    standing: Standing | None

    async def settle(self) -> None:
        """Charge the request unless that is done; raises RateLimited."""


class KeyCharge:
    """The cost of one request with an API key."""

    def __init__(self, limit: KeyLimit, key_id: str) -> None:
        self.standing: Standing | None = None
        self._limit = limit
        self._key_id = key_id
        self._is_settled = False

    async def settle(self) -> None:
        """Charge the request unless that is done; raises RateLimited."""
        if not self._is_settled:
            self._is_settled = True
            self.standing = await self._limit.charge(self._key_id)
        if self.standing is not None:
            self.standing.check()


class RequestLimits:
    """The limits that are set. None is no limit: the requests cost nothing then."""

    def __init__(
        self,
        *,
        users: UserLimit | None = None,
        keys: KeyLimit | None = None,
        addresses: AddressLimit | None = None,
    ) -> None:
        self.addresses = addresses
        self._users = users
        self._keys = keys

    def charge(
        self, credential: Credential, executor: ScriptExecutor
    ) -> KeyCharge | ChargingExecutor | None:
        """Return the cost of a request with a credential, or None if it costs nothing.

        That of a user is an executor: the first script that it runs pays. A key pays also if it
        acts for a user.
        """
        if credential.kind is Kind.KEY:
            return KeyCharge(self._keys, credential.id) if self._keys else None
        if credential.user is not None and self._users is not None:
            return self._users.charging(executor, credential.user)
        return None


def limit_fields(standing: Standing) -> str:
    """Return the header lines about a limit, of draft-ietf-httpapi-ratelimit-headers-10.

    For example::

        RateLimit-Policy: "user";q=100;w=60
        RateLimit: "user";r=41;t=1
    """
    name, limit = standing.policy, standing.limit
    return (
        f'RateLimit-Policy: "{name}";q={limit.requests};w={limit.seconds}\r\n'
        f'RateLimit: "{name}";r={standing.left};t={standing.seconds}\r\n'
    )
