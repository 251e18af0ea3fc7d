"""The Lua files, and the constants that they share with Python.

For example ``DAY_MS`` in a Lua file becomes ``86400000`` in the source of a script.
"""

from importlib.resources import files

from session_service.domain.budgets import KEYS_PER_SESSION, METADATA_BYTES, PARKED_MS
from session_service.domain.events import MAX_RETENTION_MS
from session_service.domain.times import LATEST_MS
from session_service.store.client.script import Library
from session_service.store.keys import KINDS
from session_service.store.records import ID_LENGTH, METADATA_START, USER_END, USER_START

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
CLAIM_MS = DAY_MS  # how long an Idempotency-Key is claimed

# Keys whose names scripts make that run on many shards, e.g. ``OF_WARN`` (lua/shards.lua).
_MANY = ("warn", "expire", "forget", "unreadable", "listing")

LIBRARY = Library(
    files("session_service.store") / "lua",
    {
        "DAY_MS": DAY_MS,
        # How much longer than needed keys are kept: a deadline is still acted on after no node has
        # run for a week, which is also the longest that events can be kept.
        "SPARE_MS": MAX_RETENTION_MS,
        "LATEST_MS": LATEST_MS,  # a record with a later deadline is damaged
        # Places in the tail of a session's record, in bytes, counted from 1 as in Lua.
        "ID_LENGTH": ID_LENGTH,
        "USER_START": USER_START,
        "USER_END": USER_END,
        "METADATA_START": METADATA_START,
        "METADATA_BYTES": METADATA_BYTES,
        # A record that is no session's, for lua/visible.lua.
        "NO_RECORD": rf"2 0 0 0 0 1 1 1 1 {'0' * USER_END}{{}}\n",
        "LAST_BYTES": r"\255"
        * 40,  # after a prefix of the listing: the rest of a member is shorter
        **{f"OF_{name.upper()}": KINDS[name].part for name in _MANY},
        "CLAIM_MS": CLAIM_MS,
        "RECORDED_MS": CLAIM_MS + HOUR_MS,  # the clocks of a cluster's servers differ
        "KEYS_PER_SESSION": KEYS_PER_SESSION,
        "PARKED_MS": PARKED_MS,
    },
)
