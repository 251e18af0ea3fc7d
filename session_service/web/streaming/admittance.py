"""Admits the clients of Socket.IO under access control: each connects with a credential."""

from collections.abc import Iterable

from msgspec.structs import replace
from multidict import CIMultiDict

from session_service.access.authenticator import Authenticator
from session_service.domain.errors import NotAuthenticated, ValidationFailed
from session_service.web.http.authentication import credential_of_socket
from session_service.web.http.charging import charge_address, serve
from session_service.web.http.context import RequestContext

Headers = Iterable[tuple[bytes, bytes]]


async def admit(
    access: Authenticator, context: RequestContext, headers: Headers, auth: object
) -> RequestContext:
    """Return the context of a client that connects, limited to what its credential may do.

    ``context`` and ``headers`` are those of the request that connects, and ``auth`` is the data of
    the packet CONNECT, e.g. ``{"token": "sst_…"}``. Raises ServiceError, NotAuthenticated if there
    is no valid credential.
    """
    limits = context.state.limits
    try:
        text = credential_of_socket(
            CIMultiDict(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers
            ),
            auth,
        )
        credential = await access.identify(text)
    except (NotAuthenticated, ValidationFailed):
        if limits:
            charge_address(limits, context)
        raise
    sessions = context.state.sessions_for(credential)
    admitted = replace(context, sessions=sessions, credential=credential)
    if limits:
        await serve(limits, admitted, _nothing, by_script=False)
    return admitted


async def _nothing(_: RequestContext) -> None:
    """Do nothing: to connect is a request, and costs one."""
