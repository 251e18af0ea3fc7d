"""Lua scripts, each declared once: its keys, its arguments, the files it is made of, its reply.

A Lua file names its keys, arguments and constants in capitals. The header that gives them these
names is generated from the declaration. For example::

    class RenameArguments(NamedTuple):
        session_id: str
        name: str | None
        is_final: bool

    RENAME = Script(
        LIBRARY,
        "rename",
        keys=("session", "events"),
        arguments=RenameArguments,
        parts=("clock",),
        reply=int,
    )

puts these lines before ``clock.lua`` and ``rename.lua``::

    local SESSION, EVENTS = KEYS[1], KEYS[2]
    local SESSION_ID, NAME, IS_FINAL = ARGV[1], ARGV[2] ~= '' and ARGV[2] or nil, ARGV[3] == '1'

and is called by ``await executor.run(RENAME, keys, RenameArguments(session_id="9a…", …))``.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from importlib.resources.abc import Traversable
from types import NoneType
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args, get_origin

from session_service.store.client.protocol import Argument, KeySet, bulk, encode, pack

# A number that Lua only stores, or passes on to a command: it stays text there, which is cheaper.
Digits = Annotated[int, "text"]

Arguments = tuple[Argument | tuple[Argument, ...], ...]

A = TypeVar("A", bound=Arguments)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_word = re.compile(r"\b[A-Z][A-Z_]+\b")


class NoArguments(NamedTuple):
    """The arguments of a script that takes none."""


NO_ARGUMENTS = NoArguments()


class Library:
    """A directory of Lua files, and the constants that they share with Python."""

    def __init__(self, directory: Traversable, constants: Mapping[str, int | str]) -> None:
        self._directory = directory
        self.constants = constants
        self._parts: dict[str, str] = {}

    def part(self, name: str) -> str:
        """Return the text of a file, e.g. of ``clock`` or ``webhooks/queue``."""
        if name not in self._parts:
            self._parts[name] = (self._directory / f"{name}.lua").read_text("utf-8")
        return self._parts[name]

    def constants_in(self, text: str) -> dict[str, int | str]:
        """Return the constants that a text uses, by name."""
        words = set(_word.findall(text))
        return {name: value for name, value in self.constants.items() if name in words}


@dataclass(frozen=True, eq=False, repr=False)
class Script(Generic[A, R_co]):
    """A Lua script: its source, the arguments that it takes, and how its reply is read.

    ``arguments`` is a NamedTuple class. The type of a field says how it arrives in Lua:

    ===============  =====================================================
    str, bytes       a string
    int              a number
    Digits           the digits of a number, as a string
    bool             a boolean
    ... | None       the same, or nil
    tuple[..., ...]  a table of strings; only the last field can be one
    ===============  =====================================================
    """

    library: Library
    name: str  # of its own file, and of the operation in logs
    _: KW_ONLY
    keys: tuple[str, ...]
    arguments: type[A]
    reply: Callable[[Any], R_co]  # reads a reply of the server; may raise
    parts: tuple[str, ...] = ()  # the files that stand before its own
    writes: bool = True  # whether a write concern applies
    # Whether the keys are repeated for each of several shards. Their names are their positions
    # among the keys of a shard then, from 0, and SHARD_KEYS is how many a shard has.
    many_shards: bool = False
    # What variants add: a name, arguments that are the same in each call, and a file that calls the
    # script as the function ``act``.
    labels: tuple[str, ...] = ()
    fixed: Mapping[str, Argument] = field(default_factory=dict)
    enclosing: str = ""

    def variant(
        self,
        label: str,
        *,
        replaced: Mapping[str, str] | None = None,
        keys: tuple[str, ...] = (),
        fixed: Mapping[str, Argument] | None = None,
        enclosing: str = "",
    ) -> "Script[A, R_co]":
        """Return this script with something added. Callers call it as they call this one.

        ``replaced`` names parts, each with the part that stands in its place.
        """
        replaced = replaced or {}
        if not replaced.keys() <= set(self.parts):
            raise ValueError(f"{self} has parts {self.parts}, not {tuple(replaced)}")
        return replace(
            self,
            parts=tuple(replaced.get(part, part) for part in self.parts),
            keys=(*self.keys, *keys),
            labels=(*self.labels, label),
            fixed={**self.fixed, **(fixed or {})},
            enclosing=enclosing or self.enclosing,
        )

    @cached_property
    def source(self) -> bytes:
        """The text that the server gets."""
        return f"{self.header}{self.body}".encode()

    @cached_property
    def body(self) -> str:
        """The text of the files."""
        parts = [self.library.part(part) for part in (*self.parts, self.name)]
        if self.enclosing:
            parts = ["local function act()", *parts, "end", self.library.part(self.enclosing)]
        return "\n".join(parts)

    @cached_property
    def sha(self) -> bytes:
        """The SHA-1 by which the server knows the script."""
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    @cached_property
    def packed_sha(self) -> bytes:
        """How each call begins."""
        return bulk(b"EVALSHA") + bulk(self.sha)

    @cached_property
    def packed_fixed(self) -> tuple[bytes, ...]:
        """How each call ends."""
        return tuple(map(pack, self.fixed.values()))

    @cached_property
    def has_rest(self) -> bool:
        """Whether the last argument is a tuple."""
        types = [*getattr(self.arguments, "__annotations__", {}).values()]
        return bool(types) and get_origin(types[-1]) is tuple

    def pack(self, keys: KeySet, arguments: A) -> bytes:
        """Return the command that runs the script, as the protocol has it."""
        flat: tuple[Any, ...] = arguments
        if self.has_rest:
            flat = (*flat[:-1], *flat[-1])
        fixed = self.packed_fixed
        head = b"*%d\r\n" % (3 + keys.size + len(flat) + len(fixed))
        return b"".join((head, self.packed_sha, keys.packed, *map(pack, flat), *fixed))

    def words(self, keys: KeySet, arguments: A) -> list[bytes]:
        """Return the words of that command, e.g. ``[b"EVALSHA", b"5f1c…", b"1", key, …]``."""
        flat: tuple[Any, ...] = arguments
        if self.has_rest:
            flat = (*flat[:-1], *flat[-1])
        values = map(encode, (*flat, *self.fixed.values()))
        return [b"EVALSHA", self.sha, b"%d" % keys.size, *keys.names(), *values]

    @cached_property
    def header(self) -> str:
        """The lines that define the names in capitals."""
        places = {name: f"KEYS[{n}]" for n, name in enumerate(self.keys, 1)}
        if self.many_shards:
            places = {name: str(n) for n, name in enumerate((*self.keys, "shard_keys"))}
        types = {**getattr(self.arguments, "__annotations__", {})}
        types |= {name: type(value) for name, value in self.fixed.items()}
        values = {name: _in_lua(kind, n) for n, (name, kind) in enumerate(types.items(), 1)}
        constants = {
            name: f"'{value}'" if isinstance(value, str) else str(value)
            for name, value in self.library.constants_in(self.body).items()
        }
        names = [*map(str.upper, (*places, *values)), *constants]
        if len(names) != len(set(names)):
            raise ValueError(f"{self} has one name for two things: {names}")
        return "".join(
            f"local {', '.join(map(str.upper, group))} = {', '.join(group.values())}\n"
            for group in (places, values, constants)
            if group
        )

    def __repr__(self) -> str:
        return f"Script({'+'.join((self.name, *self.labels))!r})"


def _in_lua(kind: Any, n: int) -> str:
    """Return the Lua expression for an argument of a type, e.g. ``ARGV[2] == '1'`` for bool."""
    value = f"ARGV[{n}]"
    if get_origin(kind) is tuple:
        return f"{{unpack(ARGV, {n})}}"
    options = get_args(kind) if get_origin(kind) not in (None, Annotated) else (kind,)
    is_optional = NoneType in options
    of = {each for each in options if each is not NoneType}
    if of <= {str, bytes, Digits}:
        return f"{value} ~= '' and {value} or nil" if is_optional else value
    if of == {int}:
        return f"tonumber({value})" if is_optional else f"{value} + 0"
    if of == {bool}:
        return f"({{['1'] = true, ['0'] = false}})[{value}]" if is_optional else f"{value} == '1'"
    raise TypeError(f"an argument of a script cannot be {kind}")
