"""The setting SESSION_WEBHOOKS: endpoints that are registered at the start, as a JSON array.

    [{"url": "https://hooks.example.org/sessions", "secret": "whsec_…", "types": ["ended"]}]

``previousSecret``, ``types``, ``userId`` and ``agentId`` are optional.
"""

from typing import Any

import msgspec

from session_service.domain.addresses import EVERYWHERE
from session_service.domain.errors import ValidationFailed
from session_service.domain.events import EventFilter
from session_service.domain.ids import is_uuid
from session_service.domain.signing import read_secret
from session_service.domain.webhooks import MAX_WEBHOOKS, Target, check_types, check_url

_MEMBERS = ("url", "secret", "previousSecret", "types", "userId", "agentId")


def read_targets(text: str) -> tuple[tuple[Target, ...], list[str]]:
    """Read the JSON array; return the endpoints, and a sentence for each problem.

    A sentence continues the name of the setting, e.g. ``[0].url must be …``. The addresses are not
    checked, because the operator chose them.
    """
    try:
        entries = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError):
        entries = None
    if not isinstance(entries, list) or len(entries) > MAX_WEBHOOKS:
        return (), [f" must be a JSON array of at most {MAX_WEBHOOKS} objects with url and secret"]
    targets: list[Target] = []
    problems: list[str] = []
    for n, entry in enumerate(entries):
        target = _read_target(entry, f"[{n}]", problems)
        if target and any(target.url == other.url for other in targets):
            problems.append(f"[{n}].url must be another than those before it")
        elif target:
            targets.append(target)
    return tuple(targets), problems


def _read_target(entry: Any, name: str, problems: list[str]) -> Target | None:
    """Read one endpoint; add its problems, under the name of the entry, e.g. ``[0]``."""
    if not isinstance(entry, dict):
        problems.append(f"{name} must be an object with url and secret")
        return None
    found = []
    if entry.keys() - set(_MEMBERS):
        found.append(f"{name} must have no other members than {', '.join(_MEMBERS)}")
    types: frozenset[str] | None = None
    for member in _MEMBERS:
        value = entry.get(member)
        try:
            if member in ("url", "secret") or value is not None:
                types = _check(member, value) or types
        except ValidationFailed as error:
            found.append(f"{name}.{error}")
    problems += found
    if found:
        return None
    user_id, agent_id = entry.get("userId"), entry.get("agentId")
    selected = EventFilter(
        user_id=user_id and user_id.lower(), agent_id=agent_id and agent_id.lower(), types=types
    )
    return Target(entry["url"], entry["secret"], selected, entry.get("previousSecret") or "")


def _check(member: str, value: Any) -> frozenset[str] | None:
    """Raise ValidationFailed if a member is not valid; return the types if it is ``types``."""
    if member == "types":
        is_array = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return check_types(value if is_array else [])
    if member == "url":
        check_url(value if isinstance(value, str) else "", EVERYWHERE)
    elif member in ("secret", "previousSecret"):
        read_secret(value if isinstance(value, str) else "", member)
    elif not isinstance(value, str) or not is_uuid(value):
        raise ValidationFailed(member, "must be a UUID")
    return None
