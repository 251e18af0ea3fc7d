"""The buckets of limits on requests."""

from typing import NamedTuple

from session_service.store.client.script import Arguments, Script
from session_service.store.scripts.library import LIBRARY


class TakeArguments(Arguments):
    """A limit, and the requests to put back into its bucket, then to take from it."""

    requests: int
    seconds: int
    returned: int
    wanted: int


class Taking(NamedTuple):
    """The result of TAKE (domain/rates.py), and whether the bucket could not be used."""

    granted: int
    left: int
    wait: int  # microseconds until one more is there
    failed: int  # 0 or 1


TAKE = Script(
    LIBRARY,
    "limits/take",
    keys=("bucket",),
    arguments=TakeArguments,
    parts=("limits/bucket",),
    reply=Taking._make,
    writes=False,  # without an acknowledgement: a limit must not make a request fail
)
