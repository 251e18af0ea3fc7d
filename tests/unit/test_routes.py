"""Routes: valid paths, routing of requests, and documentation."""

import pytest

from session_service.api.sessions import SessionInfo
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.context import RequestContext
from session_service.web.http.errors import MethodNotAllowed, RouteNotFound
from session_service.web.http.response import JsonResponse
from session_service.web.rest.openapi import document
from session_service.web.rest.route import PUBLIC, Route, Tag, is_api_path
from session_service.web.rest.router import Router
from session_service.web.rest.table import PUBLIC_PATHS, ROUTES, routes_of

PATHS = (
    "/sessions",
    "/sessions/health",
    "/sessions/{sessionId}",
    "/sessions/{sessionId}/messages",
    "/sessions/{sessionId}/messages/latest",
    "/sessions/{sessionId}/messages/{messageId}",
    "/sessions/{sessionId}/messages/{messageId}/reactions",
    "/webhooks/{webhookId}",
)


def router(*paths: str) -> Router[str]:
    """Return a router whose endpoints are the paths themselves."""
    made = Router[str]()
    for path in paths:
        made.add("GET", path, path)
    return made


async def react(context: RequestContext, session_id: str, message_id: str) -> JsonResponse:
    """React to a message.

    The second id is that of the message, see ``messageId``.
    """
    raise NotImplementedError


REACT = Route(
    method="PUT",
    path="/api/messaging/sessions/{sessionId}/messages/{messageId}",
    handler=react,
    tag=Tag.MESSAGING,
    access=PUBLIC,
    response=SessionInfo,
    success="The session",
)


@pytest.mark.parametrize(
    ("path", "route", "ids"),
    [
        ("/sessions", "/sessions", ()),
        ("/sessions/health", "/sessions/health", ()),
        ("/sessions/A1", "/sessions/{sessionId}", ("a1",)),
        ("/sessions/a1/", "/sessions/{sessionId}", ("a1",)),
        ("/sessions/a1/messages/", "/sessions/{sessionId}/messages", ("a1",)),
        ("/sessions/a1/messages/latest", "/sessions/{sessionId}/messages/latest", ("a1",)),
        ("/sessions/A1/messages/B2", "/sessions/{sessionId}/messages/{messageId}", ("a1", "b2")),
        ("/sessions/a1/messages/b2/", "/sessions/{sessionId}/messages/{messageId}", ("a1", "b2")),
        (
            "/sessions/a1/messages/b2/reactions",
            "/sessions/{sessionId}/messages/{messageId}/reactions",
            ("a1", "b2"),
        ),
        ("/webhooks/c3", "/webhooks/{webhookId}", ("c3",)),
    ],
)
@pytest.mark.parametrize("paths", [PATHS, PATHS[::-1]], ids=["in order", "reversed"])
def test_a_path_finds_its_route(
    path: str, route: str, ids: tuple[str, ...], paths: tuple[str, ...]
) -> None:
    """Ids are in lower case, a literal wins over an id, and a last slash is ignored."""
    assert router(*paths).find("GET", path) == (route, ids)


@pytest.mark.parametrize(
    "path",
    [
        "/sessions/",
        "/sessions//messages",
        "/sessions/a1/other",
        "/sessions/a1/messages//",
        "/sessions/a1/messages//reactions",
        "/sessions/a1/messages/b2/other",
        "/sessions/a1/messages/b2/reactions/c3",
        "/webhooks/c3/messages/b2",
    ],
)
def test_any_other_path_is_not_found(path: str) -> None:
    """An empty id and a longer path do not match."""
    with pytest.raises(RouteNotFound):
        router(*PATHS).find("GET", path)


def test_another_method_of_a_path_with_two_ids_is_refused() -> None:
    """The error lists the methods of the path."""
    with pytest.raises(MethodNotAllowed) as refused:
        router(*PATHS).find("PUT", "/sessions/a1/messages/b2")
    assert refused.value.allowed == "GET"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/a/{a}/b/{b}/c/{c}", "a path may have 2 ids at most, not 3"),
        ("/a/{a}/b/{a}", "the ids of a path must have different names"),
        ("/a/x{a}", "an id must be a whole segment"),
        ("/a/{a}.json", "an id must be a whole segment"),
        ("/a/{a}{b}", "an id must be a whole segment"),
        ("/a/{a", "an id must be a whole segment"),
        ("/a/{a-b}", "an id must be a whole segment"),
    ],
)
def test_a_path_that_cannot_be_routed_is_refused(path: str, problem: str) -> None:
    """An invalid path stops the start with a message that contains it."""
    with pytest.raises(ValueError, match=problem) as refused:
        Route(
            method="GET",
            path=path,
            handler=react,
            tag=Tag.MESSAGING,
            access=PUBLIC,
            response=SessionInfo,
            success="The session",
        )
    assert str(refused.value).startswith(path)
    with pytest.raises(ValueError, match=problem):
        router(path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a", "/a"),
        ("/a/{a}", "/a/{b}"),
        ("/a/{a}/b/{b}", "/a/{x}/b/{y}"),
        ("/a/{a}/z", "/a/b/{b}"),
        ("/a/{a}/b/{b}/z", "/a/{a}/b/c/{c}"),
    ],
)
def test_paths_that_could_be_confused_are_refused(first: str, second: str) -> None:
    """Ambiguous paths are refused in any order, so the order of routes never matters."""
    for paths in ((first, second), (second, first)):
        with pytest.raises(
            ValueError, match=r"there is a route for|could match two routes"
        ) as refused:
            router(*paths)
        assert str(refused.value).startswith(f"GET {paths[1]}: ")


def test_a_route_must_declare_its_access_and_its_tag() -> None:
    """Access has no default, so an operation is public only if its route says so."""
    for name in ("access", "tag"):
        fields = {field: getattr(REACT, field) for field in REACT.__dataclass_fields__}
        del fields[name]
        with pytest.raises(TypeError, match=name):
            Route(**fields)


def test_the_document_needs_nothing_but_the_route() -> None:
    """A path with two ids is documented by its route alone."""
    described = document(TimeoutPolicy(), (*ROUTES, REACT))
    operation = described["paths"][REACT.path]["put"]
    assert [(each["name"], each["description"]) for each in operation["parameters"]] == [
        ("sessionId", "ID of the session"),
        ("messageId", "ID of the message"),
    ]
    assert operation["operationId"] == "react"
    assert operation["summary"] == "React to a message"
    assert operation["description"] == (
        "React to a message.\n\nThe second id is that of the message, see `messageId`."
    )
    assert operation["tags"] == ["messaging"]


def test_public_operations_are_listed() -> None:
    """No operation of the API is public, and any other only if PUBLIC_PATHS has it."""
    assert {route.path for route in ROUTES if route.access is PUBLIC} <= PUBLIC_PATHS
    assert not any(map(is_api_path, PUBLIC_PATHS))


def test_every_operation_is_documented() -> None:
    """Every operation has its handler's docstring and an id of its own."""
    every_route = routes_of(with_session_tokens=True)
    assert all(route.title and route.description for route in every_route)
    assert len({route.operation_id for route in every_route}) == len(every_route)
