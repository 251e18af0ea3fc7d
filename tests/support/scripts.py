"""The catalogue of Lua scripts, as a list."""

import importlib
import pkgutil
from typing import Any

from session_service.domain.rates import RateLimit
from session_service.store import scripts
from session_service.store.client.script import Script
from session_service.store.scripts.deadlines import SWEEP
from session_service.store.scripts.replacement import GET_OR_REPLACE, REPLACE
from session_service.store.scripts.sessions import END, END_ALL
from session_service.store.scripts.variants import charging, recording_reply, retaining_history


def declared_scripts() -> list[Script[Any, Any]]:
    """Return every script that a module of the catalogue declares."""
    prefix = f"{scripts.__name__}."
    names = [scripts.__name__, *(m.name for m in pkgutil.iter_modules(scripts.__path__, prefix))]
    found: dict[str, Script[Any, Any]] = {}
    for name in names:
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, Script):
                found[repr(value)] = value
    return list(found.values())


def every_script() -> list[Script[Any, Any]]:
    """Return every script that the service may run, variants included."""
    ending = (END, END_ALL, SWEEP, REPLACE, GET_OR_REPLACE)
    plain = [*declared_scripts(), *(retaining_history(script, 60_000) for script in ending)]
    recording = [*plain, *map(recording_reply, plain)]
    single = [script for script in recording if not (script.many_shards or script.has_rest)]
    return [*recording, *(charging(script, RateLimit(100, 60)) for script in single)]
