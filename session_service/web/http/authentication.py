"""The credential in a request: in X-API-KEY, in Authorization, or in the query of a stream."""

from aiohttp import web
from multidict import MultiMapping, istr

from session_service.access.session_tokens import PREFIX
from session_service.domain.errors import NotAuthenticated, ValidationFailed

API_KEY = istr("X-API-KEY")
AUTHORIZATION = istr("Authorization")
SOCKET_MEMBERS = ("token", "apiKey")  # of Socket.IO's CONNECT
PARAMETER = "token"  # of streams: an EventSource cannot send headers


def credential_in(request: web.BaseRequest, *, in_query: bool = False) -> str | None:
    """Return the text of the credential, or None if there is none.

    Raises ValidationFailed if there are several, and NotAuthenticated for another scheme than
    Bearer. The query is read if ``in_query`` is set, and may have a session token only.
    """
    headers = request.headers
    key, authorization = headers.get(API_KEY), headers.get(AUTHORIZATION)
    if in_query or (key is not None and authorization is not None):
        return _only_one(request, in_query=in_query)
    if key is not None:
        if len(headers.getall(API_KEY)) > 1:
            raise _several(API_KEY)
        return key
    if authorization is None:
        return None
    if len(headers.getall(AUTHORIZATION)) > 1:
        raise _several(AUTHORIZATION)
    return _token_of(authorization)


def _only_one(request: web.BaseRequest, *, in_query: bool) -> str | None:
    found: list[tuple[str, str]] = [(API_KEY, text) for text in request.headers.getall(API_KEY, ())]
    found += [(AUTHORIZATION, text) for text in request.headers.getall(AUTHORIZATION, ())]
    if in_query:
        found += [(PARAMETER, text) for text in request.query.getall(PARAMETER, ())]
    if len(found) > 1:
        raise _several(found[-1][0])
    if not found:
        return None
    name, text = found[0]
    if name == PARAMETER and not text.startswith(PREFIX):
        raise NotAuthenticated  # proxies log URLs: a key or a JWT must not be in one
    return _token_of(text) if name == AUTHORIZATION else text


def credential_of_socket(headers: MultiMapping[str], auth: object) -> str | None:
    """Return the text of the credential with which a client of Socket.IO connects, or None.

    ``auth`` is the data of its packet CONNECT: ``{"token": …}`` or ``{"apiKey": …}``. Without these
    members, a header of the request counts, as in REST. Raises as ``credential_in``.
    """
    members = auth if isinstance(auth, dict) else {}
    found = [(name, members[name]) for name in SOCKET_MEMBERS if members.get(name) is not None]
    for header in (API_KEY, AUTHORIZATION):
        found += [(header, text) for text in headers.getall(header, ())]
    if len(found) > 1:
        raise _several(found[-1][0])
    name, text = found[0] if found else ("", None)
    if not isinstance(text, str | None):
        raise NotAuthenticated
    return _token_of(text) if text is not None and name == AUTHORIZATION else text


def _several(name: str) -> ValidationFailed:
    return ValidationFailed(str(name), "must be left out: the request has another credential")


def _token_of(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated
    return token.lstrip(" ")
