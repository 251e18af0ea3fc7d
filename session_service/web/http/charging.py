"""Charges requests to the limits of their callers, and remembers what is left for the response."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from msgspec.structs import replace

from session_service.domain.errors import ServiceError
from session_service.domain.rates import Standing
from session_service.store.limits.users import ChargingExecutor
from session_service.store.sessions.scope import Scope
from session_service.web.http.context import RequestContext
from session_service.web.http.limits import RequestLimits

T = TypeVar("T")

_STANDING = web.RequestKey("standing", Standing)  # the place in a request


async def serve(
    limits: RequestLimits,
    context: RequestContext,
    work: Callable[[RequestContext], Awaitable[T]],
    request: web.BaseRequest | None = None,
    *,
    by_script: bool,
) -> T:
    """Do the work of a request, and charge the request to the context's credential.

    The charge comes first, or with ``by_script`` in the first script of a user's request. Raises
    RateLimited, in place of any other error.
    """
    scope = context.sessions.scope
    charge = limits.charge(context.credential, scope.executor)
    if charge is None:
        return await work(context)
    if isinstance(charge, ChargingExecutor):
        scope = Scope(charge, scope.random, context.credential)
        context = replace(context, sessions=context.sessions.scoped(scope))
    try:
        if not by_script or not isinstance(charge, ChargingExecutor):
            await charge.settle()
        try:
            result = await work(context)
        except ServiceError:
            await charge.settle()
            raise
        await charge.settle()
        return result
    finally:
        if request is not None and charge.standing is not None:
            request[_STANDING] = charge.standing


def charge_address(
    limits: RequestLimits, context: RequestContext, request: web.BaseRequest | None = None
) -> None:
    """Charge a request to the client's address, if addresses have a limit; raises RateLimited."""
    if limits.addresses is not None:
        standing = limits.addresses.charge(context.address)
        if request is not None:
            request[_STANDING] = standing
        standing.check()


def standing_after(request: web.BaseRequest) -> Standing | None:
    """Return what is left of the limit that a request was charged to, if that is known."""
    return request.get(_STANDING)
