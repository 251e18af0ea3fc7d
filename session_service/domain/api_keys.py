"""API keys: their text, and the records by which they are recognised.

The text of a key is ``ssk_<id>_<secret>_<check>``, 65 characters, e.g.
``ssk_7k2m9x4q_0mQ8vZt3LrX6bYd1NfHs9KcWp2GuJ5aEo7TiRxB4yVn_a7639d14``:

- ``ssk_``, by which secret scanners find a key that was published,
- its id, 8 of ``0-9a-z``, by which it is looked up and managed; it is no secret,
- its secret, 43 of ``0-9A-Za-z``: 256 random bits,
- the CRC-32 of all that, up to the last ``_``, as 8 hex digits: a key that was cut off, mistyped or
  made up is refused without a look-up.

Only the SHA-256 of the text is stored: a secret of 256 random bits cannot be guessed, so it needs
no slow hash (access, "Credentials").
"""

import hashlib
import string
import zlib

from msgspec import Struct

from session_service.domain.credentials import Credential, Kind, Permission
from session_service.domain.errors import ValidationFailed
from session_service.domain.ids import RandomBytes, is_uuid

PREFIX = "ssk_"

MAX_KEYS = 1000  # a megabyte in the store; reading them after a change takes about 10 ms
MAX_AGENTS = 16  # of a key that is bound to some
MAX_NAME_CHARACTERS = 64

_ID_ALPHABET = string.digits + string.ascii_lowercase
_SECRET_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH, _SECRET_LENGTH = 8, 43
_ID_END = len(PREFIX) + _ID_LENGTH
_CHECKED_END = _ID_END + 1 + _SECRET_LENGTH  # of the text that the check digits are about
_LENGTH = _CHECKED_END + 1 + 8

ID = slice(len(PREFIX), _ID_END)  # of the text of a key


def new_key_id(random: RandomBytes) -> str:
    """Make the id of a key, e.g. ``7k2m9x4q``."""
    return _digits(random(8), _ID_ALPHABET, _ID_LENGTH)


def new_key(key_id: str, random: RandomBytes) -> str:
    """Make the text of a key with this id and a new secret."""
    secret = _digits(random(32), _SECRET_ALPHABET, _SECRET_LENGTH)
    checked = f"{PREFIX}{key_id}_{secret}"
    return f"{checked}_{zlib.crc32(checked.encode()):08x}"


def _digits(number: bytes, alphabet: str, length: int) -> str:
    """Write the last digits of a number, as many as ``length``, in the base of the alphabet."""
    rest, digits = int.from_bytes(number), ""
    for _ in range(length):
        rest, digit = divmod(rest, len(alphabet))
        digits = alphabet[digit] + digits
    return digits


def is_key_id(text: str) -> bool:
    """Return whether a text has the form of a key's id."""
    return len(text) == _ID_LENGTH and not set(text) - set(_ID_ALPHABET)


def has_form(text: str) -> bool:
    """Return whether a text may be a key, by its length and its characters alone."""
    return len(text) == _LENGTH and text.isascii()


def read_key_id(text: str) -> str | None:
    """Return the id in the text of a key, or None if its check digits are wrong.

    That the secret is of the right form is left to the comparison of its hash.
    """
    if not has_form(text):
        return None
    data = text.encode()
    if data[_CHECKED_END:] != b"_%08x" % zlib.crc32(data[:_CHECKED_END]):
        return None
    return text[ID]


def hash_of(text: str) -> bytes:
    """Return the hash of a key's text, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key as it is stored. Times are epoch milliseconds.

    After a rotation ``previous_hash`` is accepted as well, until ``overlap_until``. A key that is
    revoked or has expired stays listed for as long as there is room.
    """

    id: str
    name: str
    hash: bytes
    previous_hash: bytes | None = None
    overlap_until: int | None = None
    permissions: frozenset[Permission]
    agents: frozenset[str] | None = None  # lower case; None: not bound
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def is_valid(self, now: int) -> bool:
        """Return whether it has neither expired nor been revoked."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def credential(self, expires: int | None) -> Credential:
        """Return the credential of a client that sends this key, until it ``expires``."""
        return Credential(
            kind=Kind.KEY,
            id=self.id,
            name=self.name,
            agents=self.agents,
            permissions=self.permissions,
            expires=expires,
        )

    def __repr__(self) -> str:
        return f"ApiKey({self.id!r}, {self.name!r})"


def read_name(text: str) -> str:
    """Return the name of a key without the space around it; raises ValidationFailed."""
    name = text.strip()
    if not name.isprintable() or not 1 <= len(name) <= MAX_NAME_CHARACTERS:
        raise ValidationFailed("NAME", f"must be 1 to {MAX_NAME_CHARACTERS} printable characters")
    return name


def read_scopes(text: str) -> frozenset[Permission]:
    """Read scopes separated by commas, e.g. ``sessions:read,sessions:write``.

    Raises ValidationFailed for one that does not exist.
    """
    names = _names(text)
    unknown = sorted(names - set(Permission))
    if unknown or not names:
        problem = f"there is no scope {unknown[0]!r}" if unknown else "at least one is needed"
        allowed = ", ".join(Permission)
        raise ValidationFailed("--scopes", f"must be one or more of {allowed}: {problem}")
    return frozenset(map(Permission, names))


def read_agents(text: str) -> frozenset[str] | None:
    """Read the ids of agents separated by commas, in lower case; None if the text is empty.

    Raises ValidationFailed for one that is no UUID, or for more than MAX_AGENTS.
    """
    names = _names(text.lower())
    problem = "" if len(names) <= MAX_AGENTS else f"there are {len(names)}"
    problem = next((f"{each!r} is none" for each in sorted(names) if not is_uuid(each)), problem)
    if problem:
        raise ValidationFailed("--agents", f"must be 1 to {MAX_AGENTS} UUIDs: {problem}")
    return frozenset(names) or None


def _names(text: str) -> set[str]:
    return set(filter(None, map(str.strip, text.split(","))))
