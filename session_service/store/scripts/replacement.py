"""Creations that end the oldest sessions of a user who has too many, in the same step."""

from dataclasses import replace
from typing import Any, TypeVar

from session_service.store.client.script import Arguments, R, Script
from session_service.store.scripts.sessions import (
    CREATE,
    GET_OR_CREATE,
    CreateArguments,
    GetOrCreateArguments,
)

A = TypeVar("A", bound=Arguments)

_NEEDED = ("ids", "record", "lookup", "viewer", "delete", "ending")  # besides those of a creation


class ReplaceArguments(CreateArguments):
    """A new session, the limits of the caller, and who ends a session, for the event."""

    viewer: bytes | None
    by: str | None  # limit


class GetOrReplaceArguments(GetOrCreateArguments):
    """The same, for a session that is created only if there is none."""

    viewer: bytes | None
    by: str | None


def _replacing(script: Script[Any, R], arguments: type[A]) -> Script[A, R]:
    *parts, room, creation = script.parts
    needed = [part for part in _NEEDED if part not in parts]
    return replace(
        script,
        arguments=arguments,
        keys=(*script.keys, *(key for key in ("messages", "expire") if key not in script.keys)),
        parts=(*parts, *needed, f"{room}_of_oldest", creation),
        labels=(*script.labels, "replace"),
    )


REPLACE = _replacing(CREATE, ReplaceArguments)
GET_OR_REPLACE = _replacing(GET_OR_CREATE, GetOrReplaceArguments)
