"""Finds the endpoint for a method and a path.

A lookup costs 0.4 us: it reads one dictionary by path, and another by the text after the id
(docs/decisions/0003-no-aiohttp-router.md). The order in which routes are added does not matter,
because paths that could be confused are refused.
"""

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

from session_service.web.http.errors import MethodNotAllowed, RouteNotFound

WHOLE_SERVER = ("*", "/")  # health checkers send OPTIONS to these

E = TypeVar("E")

_MAX_IDS = 2


class _Branch(Generic[E]):
    """The paths with the same text before an id: endpoints by method, by the text after the id."""

    __slots__ = ("branches", "tails")

    def __init__(self) -> None:
        self.tails: dict[str, dict[str, E]] = {}
        self.branches: dict[str, _Branch[E]] = {}  # paths with one more id, by the text before it


class Router(Generic[E]):
    """Endpoints by path and method.

    ``/sessions/{sessionId}/messages/{messageId}`` is stored by the texts around its ids:
    ``/sessions/``, then ``/messages/``, then nothing.
    """

    def __init__(self) -> None:
        self._by_path: dict[str, dict[str, E]] = {}
        self._branches: dict[str, _Branch[E]] = {}

    def add(self, method: str, path: str, endpoint: E) -> None:
        """Add an endpoint; raises ValueError if its path could be confused with an earlier one."""
        ids_of(path)
        *befores, tail = _texts(path)
        branches, by_tail = self._branches, self._by_path
        for before in befores:
            for other in branches:
                if before != other and (before.startswith(other) or other.startswith(before)):
                    raise ValueError(
                        f"{method} {path}: a request could match two routes, because ids follow"
                        f" both {before} and {other}"
                    )
            branch = branches.setdefault(before, _Branch())
            branches, by_tail = branch.branches, branch.tails
        methods = by_tail.setdefault(tail, {})
        if method in methods:
            raise ValueError(f"{method} {path}: there is a route for this method and path already")
        methods[method] = endpoint

    def find(self, method: str, path: str) -> tuple[E, tuple[str, ...]]:
        """Return the endpoint and the ids in the path, in lower case, because all ids are UUIDs.

        Raises RouteNotFound or MethodNotAllowed.
        """
        ids: tuple[str, ...] = ()
        methods = self._by_path.get(path)
        if methods is None:
            for before, branch in self._branches.items():
                if path.startswith(before):
                    first, slash, rest = path[len(before) :].partition("/")
                    if first:
                        ids = (first.lower(),)
                        tail = slash + rest
                        tails = branch.tails
                        methods = tails.get(tail) or tails.get(tail.removesuffix("/"))
                        if methods is None and branch.branches:
                            methods, second = _find_second(branch, tail)
                            ids += (second.lower(),)
                    break
        if methods is None:
            raise RouteNotFound
        if method not in methods:
            if path == "*":  # the target of OPTIONS, and no path
                raise RouteNotFound
            raise MethodNotAllowed(", ".join(sorted(methods)))
        return methods[method], ids

    def every_path(self) -> Iterator[dict[str, E]]:
        """Yield the endpoints of each path, by method."""
        yield from self._by_path.values()
        branches = list(self._branches.values())
        for branch in branches:
            yield from branch.tails.values()
            branches += branch.branches.values()


def _find_second(branch: _Branch[E], tail: str) -> tuple[dict[str, E] | None, str]:
    """Return the methods of a path with two ids, and its second id; ``tail`` follows the first.

    In the tail ``/messages/18f0…/reactions``, the second id is ``18f0…``.
    """
    for before, inner in branch.branches.items():
        if tail.startswith(before):
            second, slash, rest = tail[len(before) :].partition("/")
            rest = slash + rest
            methods = inner.tails.get(rest) or inner.tails.get(rest.removesuffix("/"))
            return (methods if second else None), second
    return None, ""


def ids_of(path: str) -> tuple[str, ...]:
    """Return the names of the ids in a path: ``/sessions/{sessionId}`` has ``("sessionId",)``.

    Raises ValueError if it has more than two, the same twice, or one that is not a whole segment.
    """
    texts, ids = _texts(path), tuple(re.findall(r"\{(\w+)\}", path))
    if len(ids) > _MAX_IDS:
        raise ValueError(f"{path}: a path may have {_MAX_IDS} ids at most, not {len(ids)}")
    if len(set(ids)) < len(ids):
        raise ValueError(f"{path}: the ids of a path must have different names")
    are_segments = all(text.endswith("/") for text in texts[:-1]) and all(
        text.startswith("/") or not text for text in texts[1:]
    )
    if not are_segments or re.search(r"[{}]", "".join(texts)):
        raise ValueError(f"{path}: an id must be a whole segment, such as /{{sessionId}}/")
    return ids


def _texts(path: str) -> list[str]:
    """Return the texts around the ids: ``/sessions/{sessionId}`` has ``/sessions/`` and ``''``."""
    return re.split(r"\{\w+\}", path)
