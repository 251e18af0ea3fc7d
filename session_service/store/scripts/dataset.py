"""The data set as a whole, and the permissions of the store's user."""

from typing import NamedTuple

from session_service.store.client.script import Arguments, Digits, NoArguments, Script
from session_service.store.scripts.library import LIBRARY


class MetaArguments(Arguments):
    """The format that this node writes, and an epoch in case the data set is new."""

    format: int
    new_epoch: str
    kept_ms: Digits  # without a node


class Meta(NamedTuple):
    """The newest format that any node has written, and the data set's epoch."""

    format: int
    epoch: bytes


META = Script(
    LIBRARY,
    "meta",
    keys=("meta",),
    arguments=MetaArguments,
    reply=Meta._make,
    writes=False,  # lost writes are repeated, so they need no acknowledgement
)


class LayoutArguments(Arguments):
    """The oldest format that this version reads."""

    oldest: int


LAYOUT = Script(
    LIBRARY,
    "layout",
    keys=("session", "listing", "meta"),
    arguments=LayoutArguments,
    reply=int,  # how many shards have data of an older format
    writes=False,
    many_shards=True,
)


class Trial(NamedTuple):
    """The error of a write, or "", and the commands that the user may not run.

    E.g. ``Trial("", ("TIME", "XGROUP CREATE"))``.
    """

    refusal: str
    missing: tuple[str, ...]


def _trial(reply: list[bytes]) -> Trial:
    refusal, *missing = (each.decode(errors="replace") for each in reply)
    return Trial(refusal, tuple(missing))


PROBE = Script(
    LIBRARY,
    "probe",
    keys=("probe",),
    arguments=NoArguments,
    reply=_trial,
    writes=False,  # it deletes its writes
)
