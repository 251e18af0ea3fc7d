"""The audit log: who did something that others may have to account for, and who was refused.

An entry is a line of the logger ``session_service.audit``, which is written whatever LOG_LEVEL is.
docs/operating.md, "Audit log", lists the events and their fields. It never has a token, a secret, a
URL or a text from a client, apart from the request id. E.g. ``{"event": "session.ended",
"outcome": "done", "credential_kind": "key", "credential_id": "7Hq2Xw9k", "credential_name":
"billing", "address": "192.0.2.7", "session": "3f8a1c52-…", "by": "server", …}``.
"""

import asyncio
import os
import pwd
from collections.abc import Callable
from contextvars import Context
from enum import StrEnum
from typing import Any, NamedTuple, Self

from msgspec import Struct

from session_service.domain.credentials import Credential
from session_service.domain.errors import ServiceError, StoreUnavailable
from session_service.logs import EventLog

_SECONDS = 1.0
_PER_SECOND = 10  # entries of one source and event; beyond that they are counted
_SOURCES = 200  # in a second, with entries of their own; beyond that they count as one

_log = EventLog("session_service.audit")


class AuditEvent(StrEnum):
    """The events of the audit log."""

    SESSION_ENDED = "session.ended"
    SESSIONS_ENDED = "sessions.ended"  # all that match a filter
    SESSIONS_LISTED = "sessions.listed"  # other people's: by a credential that is not one user's
    EVENTS_STREAMED = "events.streamed"  # of other people's sessions
    HISTORY_ERASED = "history.erased"
    MINTED = "token.minted"  # a session token
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_ROTATED = "webhook.rotated"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_REPLAYED = "webhook.replayed"
    WEBHOOK_TESTED = "webhook.tested"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    REFUSED = "request.refused"  # with one of REFUSALS


REFUSALS = (401, 403, 429)  # statuses

# Of these there may be any number; the others have an effect, and each has an entry.
_COUNTED = {AuditEvent.SESSIONS_LISTED, AuditEvent.EVENTS_STREAMED, AuditEvent.REFUSED}


class Outcome(StrEnum):
    """The outcomes of audited operations. One that certainly had no effect has no entry."""

    DONE = "done"
    UNKNOWN = "unknown"  # it may have had an effect: the store did not answer, or a defect followed
    REFUSED = "refused"


class UnauditedBlock(Struct):
    """The block of an operation that has no entry in the audit log."""

    def add(self, **fields: Any) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Do nothing."""


class AuditedBlock(UnauditedBlock):
    """The block of an operation, at the end of which ``write`` gets its event and outcome.

    That is not called if a refusal shows that the operation had no effect.
    """

    write: Callable[[AuditEvent, Outcome, dict[str, Any]], None]
    event: AuditEvent
    fields: dict[str, Any]

    def add(self, **fields: Any) -> None:
        """Add fields to the entry."""
        self.fields.update(fields)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Write the entry."""
        if error is None:
            self.write(self.event, _DONE, self.fields)
        elif isinstance(error, StoreUnavailable) or not isinstance(error, ServiceError):
            self.write(self.event, _UNKNOWN, self.fields)


# As the names of this module, which are found in a tenth of the time.
_DONE, _UNKNOWN = Outcome.DONE, Outcome.UNKNOWN
_OPEN = Credential.OPEN


class _Source(NamedTuple):
    """What entries are counted by: the credential or, without one, the network of the address."""

    name: str
    event: AuditEvent
    outcome: Outcome
    status: object


_OTHERS = "others"


class AuditLog:
    """Writes the entries of one process. ``group_of`` returns the network that is one source.

    Refusals, listings and outcomes that are unknown have at most ten entries a second for each
    source. At the end of the second, one more entry has the ``count`` of the others, and no id of a
    request.
    """

    def __init__(self, group_of: Callable[[str], str]) -> None:
        self._group_of = group_of
        self._counts: dict[_Source, int] = {}
        self._fields: dict[_Source, dict[str, Any]] = {}  # of the last entry that was only counted
        self._end_of_second: asyncio.TimerHandle | None = None

    def record(
        self,
        event: AuditEvent,
        credential: Credential,
        address: str,
        outcome: Outcome,
        fields: dict[str, Any],
    ) -> None:
        """Write an entry, e.g. with the fields ``{"session": session_id, "by": "user"}``.

        A field that is None is left out. ``user`` and ``session`` are those of the credential if
        they are not among the fields.
        """
        entry = _entry(outcome, credential, address)
        for name, value in fields.items():
            if value is not None:
                entry[name] = value
        if event in _COUNTED or outcome is not _DONE:
            name = credential.owner or self._group_of(address)
            source = _Source(name, event, outcome, fields.get("status"))
            if not self._admit(source, entry):
                return
        _log.write(event._value_, entry)

    def close(self) -> None:
        """Write the counts of the present second."""
        if self._end_of_second:
            self._end_of_second.cancel()
            self._write_counts()

    def _admit(self, source: _Source, entry: dict[str, Any]) -> bool:
        """Count an entry, and return whether to write it."""
        if not self._counts:
            # In an empty context: the line is about several requests, so it has the id of none.
            self._end_of_second = asyncio.get_running_loop().call_later(
                _SECONDS, self._write_counts, context=Context()
            )
        if source not in self._counts and len(self._counts) >= _SOURCES:
            source = source._replace(name=_OTHERS)
            entry = {name: entry[name] for name in ("outcome", "status") if name in entry}
        count = self._counts[source] = self._counts.get(source, 0) + 1
        if count > _PER_SECOND:
            self._fields[source] = entry
        return count <= _PER_SECOND

    def _write_counts(self) -> None:
        counts, self._counts = self._counts, {}
        fields, self._fields = self._fields, {}
        self._end_of_second = None
        for source, entry in fields.items():
            _log.write(source.event, {**entry, "count": counts[source] - _PER_SECOND})


def _entry(outcome: Outcome, credential: Credential, address: str) -> dict[str, Any]:
    """Return the fields of every entry. A request that has no credential was refused for that."""
    if credential is _OPEN:
        return {"outcome": outcome._value_, "address": address}
    # ``_value_`` is a plain str, encoded in half the time; ``value`` takes five times as long.
    entry: dict[str, Any] = {
        "outcome": outcome._value_,
        "credential_kind": credential.kind._value_,
        "credential_id": credential.id,
        "credential_name": credential.name,
        "address": address,
    }
    if credential.user is not None:
        entry["user"] = credential.user
    if credential.session is not None:
        entry["session"] = credential.session
    return entry


def record_by_operator(event: AuditEvent, **fields: Any) -> None:
    """Write an entry at once, for a command that the operator runs on the host.

    E.g. ``record_by_operator(AuditEvent.KEY_REVOKED, key="7Hq2Xw9k", key_name="billing")``. The
    credential is the user of the operating system, of kind ``host``.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container with an arbitrary user id
        name = str(uid)
    who = {"credential_kind": "host", "credential_id": str(uid), "credential_name": name}
    _log.write(event, {"outcome": Outcome.DONE, **who, **fields})
    _log.flush()
