"""Variants: scripts that do something more, which callers call as they call the plain ones."""

from dataclasses import replace
from functools import cache
from typing import Any

from session_service.domain.rates import RateLimit
from session_service.store.client.script import A, R, Script


def retaining_history(script: Script[A, R], history_ms: int) -> Script[A, R]:
    """Return the script so that it retains conversations for that long, or as it is for 0.

    Without the variant a conversation is deleted with its session. Example:
    ``retaining_history(END, 86_400_000)`` is ``Script('end+retain')``.
    """
    if not history_ms:
        return script
    return script.variant(
        "retain",
        replaced={"delete": "retain"},
        keys=("retained", "participants"),
        fixed={"history_ms": history_ms},
    )


def recording_reply(script: Script[A, R]) -> Script[A, R]:
    """Return the script so that it acts once and records its reply (lua/record_reply.lua).

    The keys that it takes after its own are ``outcome``, ``tails`` and ``used``. Example:
    ``recording_reply(SEND)`` is ``Script('send+record')``.
    """
    variant: Script[A, R] = _recording_reply(script)
    return variant


@cache
def _recording_reply(script: Script[Any, Any]) -> Script[Any, Any]:
    keys = ("outcome", "tails", "used")
    variant = script.variant("record", keys=keys, enclosing=("record_reply",))
    return replace(variant, writes=True)  # the recorded reply, even if the script only reads


def charging(script: Script[A, R], limit: RateLimit) -> Script[A, R]:
    """Return the script so that it first takes a request from a bucket (lua/limits/charge.lua).

    The key that it takes after its own is ``bucket``. Its reply has the script's own one at the
    end. Example: ``charging(GET, RateLimit(100, 60))`` is ``Script('get+charge')``.
    """
    variant: Script[A, R] = _charging(script, limit)
    return variant


@cache
def _charging(script: Script[Any, Any], limit: RateLimit) -> Script[Any, Any]:
    # A script that only reads needs no acknowledgement: a limit must not make a read fail.
    return script.variant(
        "charge",
        keys=("bucket",),
        fixed={"requests": limit.requests, "seconds": limit.seconds},
        enclosing=("limits/bucket", "limits/charge"),
    )
