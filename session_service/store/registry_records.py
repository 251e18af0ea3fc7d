"""The records of a registry, as they were last read: webhooks and API keys."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from session_service.domain.errors import RecordUnreadable
from session_service.store.quarantine import Quarantine

_ID_CHARACTERS = 36  # of an id from the store, in the log
_TASK = "read"

T = TypeVar("T")


class RegistryRecords(Generic[T]):
    """The records of a registry by id, and the ids of those that cannot be read.

    ``unpack(id, value)`` returns a record, or raises RecordUnreadable. One that cannot be read is
    in the quarantine as ``subject_of(id)``, e.g. ``API key 7k2m9x4q``, and is tried again after the
    pauses of that: it may be repaired without another change of the registry.
    """

    def __init__(
        self,
        unpack: Callable[[str, bytes], T],
        subject_of: Callable[[str], str],
        quarantine: Quarantine,
    ) -> None:
        self._unpack = unpack
        self._subject_of = subject_of
        self._quarantine = quarantine
        self.known: dict[str, T] = {}
        self.unreadable: frozenset[str] = frozenset()

    def replace(self, values: Mapping[bytes, bytes]) -> None:
        """Replace all records by those of a hash in the store; ``known`` is a new dictionary."""
        before = self.unreadable | self.known.keys()
        known, unreadable = {}, set()
        for field, value in values.items():
            record_id = id_of(field)
            subject = self._subject_of(record_id)
            try:
                known[record_id] = self._unpack(record_id, value)
            except RecordUnreadable as error:
                unreadable.add(record_id)
                self._quarantine.failed(subject, _TASK, error)
            else:
                self._quarantine.succeeded(subject, _TASK)
        for record_id in before - unreadable - known.keys():
            self._quarantine.forget(self._subject_of(record_id))
        self.known, self.unreadable = known, frozenset(unreadable)

    def must_read_again(self) -> bool:
        """Return whether it is time to try a record again that could not be read."""
        return any(
            not self._quarantine.must_wait(self._subject_of(record_id), _TASK)
            for record_id in self.unreadable
        )


def id_of(field: bytes) -> str:
    r"""Return the id of a field of the hash, also of one that is no id, e.g. ``\xff``."""
    return field.decode(errors="backslashreplace")[:_ID_CHARACTERS]
