"""Creations that end the oldest sessions of a user who has too many, in the same step."""

from dataclasses import replace
from typing import Any, Generic, NamedTuple

from session_service.store.client.protocol import RawReply
from session_service.store.client.script import Arguments, R_co, Script
from session_service.store.scripts.sessions import (
    CREATE,
    GET_OR_CREATE,
    CreateArguments,
    Found,
    GetOrCreateArguments,
)

_NEEDED = ("ids", "record", "lookup", "viewer", "delete", "ending")  # besides those of a creation


class ReplaceArguments(CreateArguments):
    """A new session, the limits of the caller, and who ends a session, for the event."""

    viewer: bytes | None
    by: str | None  # limit


class GetOrReplaceArguments(GetOrCreateArguments):
    """The same, for a session that is created only if there is none."""

    viewer: bytes | None
    by: str | None


class Replacement(NamedTuple, Generic[R_co]):
    """The reply of the creation itself, and the ids of the sessions that were ended for it."""

    created: R_co
    replaced: list[str]


def _replacing(script: Script[Any, Any], arguments: type[Arguments]) -> Script[Any, Any]:
    def reply(raw: RawReply) -> Replacement[Any]:
        own, *replaced = raw if isinstance(raw, list) else [raw]
        return Replacement(script.reply(own), [str(each, "ascii") for each in replaced])

    *parts, room, creation = script.parts
    needed = [part for part in _NEEDED if part not in parts]
    return replace(
        script,
        arguments=arguments,
        keys=(*script.keys, *(key for key in ("messages", "expire") if key not in script.keys)),
        parts=(*parts, *needed, f"{room}_of_oldest", creation),
        labels=(*script.labels, "replace"),
        reply=reply,
    )


REPLACE: Script[ReplaceArguments, Replacement[int | None]] = _replacing(CREATE, ReplaceArguments)
GET_OR_REPLACE: Script[GetOrReplaceArguments, Replacement[Found | int | None]] = _replacing(
    GET_OR_CREATE, GetOrReplaceArguments
)
