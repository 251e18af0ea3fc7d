"""Lua scripts, each declared once: its keys, its arguments, the files it is made of, its reply.

A Lua file names its keys and arguments in capitals. The header that gives them these names is
generated from the declaration. For example::

    class RenameArguments(Arguments):
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
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import astuple

from session_service.store.client.protocol import Argument, KeySet, RawReply, bulk, encode, pack

# A number that Lua only stores, or passes on to a command: it stays text there, which is cheaper.
Digits = Annotated[int, "text"]


class Arguments(msgspec.Struct, gc=False):
    """The arguments of a script, by name.

    A struct, because making one with ten fields takes 0.1 us, and a named tuple 0.4.
    """


class NoArguments(Arguments):
    """The arguments of a script that takes none."""


NO_ARGUMENTS = NoArguments()

A = TypeVar("A", bound=Arguments)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Library:
    """A directory of Lua files, and the constants that they share with Python, in capitals.

    A constant is written into the source in place of its name. As a local variable at the top that
    functions capture, it would cost Redis up to 0.1 us a call.
    """

    def __init__(self, directory: Traversable, constants: Mapping[str, int | str]) -> None:
        self.constants = constants
        self.operations: set[str] = set()  # the names of the scripts, for metrics
        self._directory = directory
        self._parts: dict[str, str] = {}
        names = "|".join(constants)
        self._token = re.compile(rf"--[^\n]*|'[^'\n]*'|\b({names})\b")  # comment, string, constant

    def part(self, name: str) -> str:
        """Return a file's text with its constants, e.g. of ``clock`` or ``webhooks/queue``."""
        if name not in self._parts:
            text = (self._directory / f"{name}.lua").read_text("utf-8")
            self._parts[name] = self._token.sub(self._value, text)
        return self._parts[name]

    def _value(self, token: re.Match[str]) -> str:
        if token[1] is None:
            return token[0]
        value = self.constants[token[1]]
        return f"'{value}'" if isinstance(value, str) else str(value)


@dataclass(frozen=True, eq=False, repr=False)
class Script(Generic[A, R_co]):
    """A Lua script: its source, the arguments that it takes, and how its reply is read.

    The type of a field of ``arguments`` says how it arrives in Lua:

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
    reply: Callable[[RawReply], R_co]  # reads a reply of the server; may raise
    parts: tuple[str, ...] = ()  # the files that stand before its own
    writes: bool = True  # whether a write concern applies
    # Whether the keys are repeated for each of several shards. In Lua a name is a position among
    # the keys of a shard then, from 0: ``KEYS[n + WARN]``. SHARD_KEYS is how many a shard has.
    many_shards: bool = False
    # Added by variants: a name, arguments that are the same in each call, and files of which the
    # last calls the script, with all that encloses it already, as the function ``act``.
    labels: tuple[str, ...] = ()
    fixed: Mapping[str, Argument] = field(default_factory=dict)
    enclosing: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        """Add the name to those of the library."""
        self.library.operations.add(self.name)

    def variant(
        self,
        label: str,
        *,
        replaced: Mapping[str, str] | None = None,
        keys: tuple[str, ...] = (),
        fixed: Mapping[str, Argument] | None = None,
        enclosing: tuple[str, ...] = (),
    ) -> "Script[A, R_co]":
        """Return this script with something added. Callers call it as they call this one.

        ``replaced`` names parts, each with the part that stands in its place.
        """
        replaced = replaced or {}
        if not replaced.keys() <= set(self.parts):
            raise ValueError(f"{self} has parts {self.parts}, not {tuple(replaced)}")
        if fixed and self.has_rest:
            raise ValueError(f"{self} takes its last arguments one by one")
        return replace(
            self,
            parts=tuple(replaced.get(part, part) for part in self.parts),
            keys=(*self.keys, *keys),
            labels=(*self.labels, label),
            fixed={**self.fixed, **(fixed or {})},
            enclosing=(*self.enclosing, enclosing) if enclosing else self.enclosing,
        )

    @cached_property
    def source(self) -> bytes:
        """The text that the server gets."""
        return f"{self.header}{self.body}".encode()

    @cached_property
    def body(self) -> str:
        """The text of the files."""
        parts = [self.library.part(part) for part in (*self.parts, self.name)]
        for files in self.enclosing:
            parts = ["local act = function()", *parts, "end", *map(self.library.part, files)]
        return "\n".join(parts)

    @cached_property
    def sha(self) -> bytes:
        """The SHA-1 by which the server knows the script."""
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    @cached_property
    def _packed_fixed(self) -> bytes:
        return b"".join(map(pack, self.fixed.values()))

    @cached_property
    def _starts(self) -> dict[int, bytes]:
        """How a call begins, by the number of its keys and arguments."""
        return {}

    @cached_property
    def _types(self) -> dict[str, Any]:
        return get_type_hints(self.arguments, include_extras=True)

    @cached_property
    def has_rest(self) -> bool:
        """Whether the last argument is a tuple."""
        *_, last = (None, *self._types.values())
        return get_origin(last) is tuple

    def pack(self, keys: KeySet, arguments: A) -> bytes:
        """Return the command that runs the script, as the protocol has it."""
        values = astuple(arguments)
        if self.has_rest:
            values = (*values[:-1], *values[-1])
        count = keys.size + len(values)
        start = self._starts.get(count) or self._start(count)
        return b"".join((start, keys.packed, *map(pack, values), self._packed_fixed))

    def _start(self, count: int) -> bytes:
        words = b"*%d\r\n" % (3 + count + len(self.fixed))
        start = self._starts[count] = words + bulk(b"EVALSHA") + bulk(self.sha)
        return start

    def words(self, keys: KeySet, arguments: A) -> list[bytes]:
        """Return the words of that command, e.g. ``[b"EVALSHA", b"5f1c…", b"1", key, …]``."""
        values = astuple(arguments)
        if self.has_rest:
            values = (*values[:-1], *values[-1])
        encoded = map(encode, (*values, *self.fixed.values()))
        return [b"EVALSHA", self.sha, b"%d" % keys.size, *keys.names(), *encoded]

    @cached_property
    def header(self) -> str:
        """The lines that define the names in capitals."""
        places = {name: f"KEYS[{n}]" for n, name in enumerate(self.keys, 1)}
        if self.many_shards:
            places = {name: str(n) for n, name in enumerate((*self.keys, "shard_keys"))}
        types = self._types | {name: type(value) for name, value in self.fixed.items()}
        values = {name: _in_lua(kind, n) for n, (name, kind) in enumerate(types.items(), 1)}
        names = [name.upper() for name in (*places, *values)]
        if len(names) != len(set(names)):
            raise ValueError(f"{self} has one name for two things: {names}")
        return "".join(
            f"local {', '.join(map(str.upper, group))} = {', '.join(group.values())}\n"
            for group in (places, values)
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
