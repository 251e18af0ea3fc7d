"""Lua scripts: the headers generated from their declarations, and the rules for the files."""

import re
import subprocess
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pytest

from session_service.store.client.protocol import KeySet
from session_service.store.client.script import (
    NO_ARGUMENTS,
    Arguments,
    Digits,
    Library,
    NoArguments,
    Script,
)
from session_service.store.scripts.library import LIBRARY
from session_service.store.scripts.sessions import END, SEND
from session_service.store.scripts.variants import recording_reply, retaining_history
from tests.support.scripts import every_script
from tests.support.tools import need

LUA = Path(__file__).parents[2] / "session_service" / "store" / "lua"
FILES = {str(file.relative_to(LUA).with_suffix("")): file for file in LUA.rglob("*.lua")}

_name = re.compile(r"\b[A-Z][A-Z_]+\b")
_own = re.compile(r"^ *local ([A-Z][A-Z_]+) =", re.MULTILINE)


class RenameArguments(Arguments):
    session_id: str
    name: str | None
    size: int
    place: int | None
    delay_ms: Digits
    is_final: bool
    is_new: bool | None
    others: tuple[bytes, ...]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    for name, text in {
        "rename": "return NAME .. 'LATEST' .. LATEST .. LAST_BYTE -- LATEST",
        "clock": "local now = 1",
        "other": "local now = HISTORY_MS",
        "once": "return {act()}",
    }.items():
        (tmp_path / f"{name}.lua").write_text(text, "utf-8")
    files: Traversable = tmp_path
    return Library(files, {"LATEST": 99, "LAST_BYTE": "~"})


def renaming(library: Library, **options: Any) -> Script[RenameArguments, int]:
    return Script(
        library,
        "rename",
        keys=("session", "events"),
        arguments=RenameArguments,
        parts=("clock",),
        reply=int,
        **options,
    )


def lines(script: Script[Any, Any]) -> list[str]:
    return script.source.decode().splitlines()


class TestHeader:
    """The generated header: names of keys and arguments, and constants."""

    def test_it_has_the_names_in_capitals(self, library: Library) -> None:
        """Names are in capitals, arguments have their type, and constants their value."""
        assert lines(renaming(library)) == [
            "local SESSION, EVENTS = KEYS[1], KEYS[2]",
            "local SESSION_ID, NAME, SIZE, PLACE, DELAY_MS, IS_FINAL, IS_NEW, OTHERS = "
            "ARGV[1], ARGV[2] ~= '' and ARGV[2] or nil, ARGV[3] + 0, tonumber(ARGV[4]), ARGV[5], "
            "ARGV[6] == '1', ({['1'] = true, ['0'] = false})[ARGV[7]], {unpack(ARGV, 8)}",
            "local now = 1",
            "return NAME .. 'LATEST' .. 99 .. '~' -- LATEST",
        ]

    def test_it_counts_the_keys_of_one_of_many_shards(self, library: Library) -> None:
        """For many shards a name is an index into one shard's keys."""
        first, *_ = lines(renaming(library, many_shards=True))
        assert first == "local SESSION, EVENTS, SHARD_KEYS = 0, 1, 2"

    def test_it_is_empty_without_names(self, library: Library) -> None:
        """A script without keys and arguments has an empty header."""
        script = Script(library, "once", keys=(), arguments=NoArguments, reply=int)
        assert lines(script) == ["return {act()}"]

    def test_a_name_stands_for_one_thing(self, library: Library) -> None:
        """A key and an argument cannot have the same name."""
        script = Script(library, "once", keys=("name",), arguments=RenameArguments, reply=int)
        with pytest.raises(ValueError, match="one name for two things"):
            assert script.source

    def test_an_argument_has_a_type_that_lua_has(self, library: Library) -> None:
        """An argument of another type is refused."""

        class Wrong(Arguments):
            share: float

        script = Script(library, "once", keys=(), arguments=Wrong, reply=int)
        with pytest.raises(TypeError, match="cannot be"):
            assert script.source


class TestCall:
    """Commands that run a script."""

    keys = KeySet.of("3f", [b"a", b"b"])
    arguments = RenameArguments("9a", None, 7, None, 60_000, True, False, (b"x", b"y"))
    values = (b"9a", b"", b"7", b"", b"60000", b"1", b"0", b"x", b"y")

    def test_its_words(self, library: Library) -> None:
        """Text, numbers, True and None are encoded as the header reads them; tuples by item."""
        script = renaming(library)
        assert script.words(self.keys, self.arguments) == [
            *(b"EVALSHA", script.sha, b"2", b"a", b"b"),
            *self.values,
        ]

    def test_its_bytes(self, library: Library) -> None:
        """The encoded command has the same words."""
        script = renaming(library)
        words = script.words(self.keys, self.arguments)
        packed = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        assert script.pack(self.keys, self.arguments) == b"*%d\r\n" % len(words) + packed


class TestVariants:
    """Variants of scripts."""

    def test_all_else_is_inherited(self, library: Library) -> None:
        """A variant inherits flags, keys and arguments, and adds its own after them."""
        plain = Script(
            library,
            "once",
            keys=("session",),
            arguments=NoArguments,
            parts=("clock",),
            reply=int,
            writes=False,
        )
        variant = plain.variant(
            "more", replaced={"clock": "other"}, keys=("kept",), fixed={"history_ms": 5}
        )
        assert lines(variant) == [
            "local SESSION, KEPT = KEYS[1], KEYS[2]",
            "local HISTORY_MS = ARGV[1] + 0",
            "local now = HISTORY_MS",
            "return {act()}",
        ]
        assert (variant.writes, variant.name, repr(variant)) == (
            False,
            "once",
            "Script('once+more')",
        )
        keys = KeySet.of("3f", [b"a", b"b"])
        assert variant.words(keys, NO_ARGUMENTS)[2:] == [b"2", b"a", b"b", b"5"]
        assert variant.pack(keys, NO_ARGUMENTS).endswith(b"$1\r\n5\r\n")

    def test_a_script_can_be_enclosed(self, library: Library) -> None:
        """An enclosing script calls the enclosed one as ``act``."""
        plain = Script(library, "clock", keys=(), arguments=NoArguments, reply=int)
        variant = plain.variant("once", enclosing=("once",))
        assert lines(variant) == [
            "local act = function()",
            "local now = 1",
            "end",
            "return {act()}",
        ]

    def test_only_a_part_can_be_replaced(self, library: Library) -> None:
        """Replacing a part that the script does not have is an error."""
        with pytest.raises(ValueError, match="has parts"):
            renaming(library).variant("more", replaced={"cloak": "other"})

    def test_those_of_the_catalogue_can_be_combined(self) -> None:
        """Variants can be combined, and their names list all of them."""
        both = recording_reply(retaining_history(END, 60_000))
        assert repr(both) == "Script('end+retain+record')"
        assert both.keys == (*END.keys, "retained", "participants", "outcome", "tails", "used")
        assert retaining_history(END, 0) is END
        assert recording_reply(SEND) is recording_reply(SEND)


@pytest.mark.parametrize("script", every_script(), ids=repr)
class TestCatalogue:
    """Every script that the service may run."""

    def test_every_name_is_declared(self, script: Script[Any, Any]) -> None:
        """Every name in capitals is a key, an argument, a constant, or local to the file."""
        used = names(script.body) - {"KEYS"} - set(_own.findall(script.body))
        assert used <= names(script.header)

    def test_every_key_and_argument_is_used(self, script: Script[Any, Any]) -> None:
        """Files use every key and argument, unless they loop over all keys."""
        declared = {*script.arguments.__struct_fields__, *script.fixed}
        if "(KEYS)" not in script.body:
            declared |= {*script.keys}
        assert {name.upper() for name in declared} <= names(script.body)

    def test_nothing_is_taken_by_its_number(self, script: Script[Any, Any]) -> None:
        """Files use keys and arguments by name, never by number."""
        assert "ARGV" not in names(script.body)
        assert script.many_shards or "KEYS" not in names(script.body)
        assert not re.search(r"KEYS\[[^\]]*[0-9]", code(script.body))

    def test_no_constant_is_repeated(self, script: Script[Any, Any]) -> None:
        """Constants that Python and Lua share are defined in the library only."""
        own = {
            name
            for part in (*script.parts, script.name)
            for name in _own.findall(FILES[part].read_text())
        }
        assert not own & LIBRARY.constants.keys()


def test_every_script_is_valid(tmp_path: Path) -> None:
    """The linter luacheck finds no unknown global and no shadowed name."""
    need("luacheck")
    files = []
    for script in every_script():
        file = tmp_path / f"{script!r}.lua".replace("/", "-")
        file.write_bytes(script.source)
        files.append(str(file))
    redis = (
        "--std",
        "lua51",
        "--read-globals",
        "redis",
        "KEYS",
        "ARGV",
        "cjson",
        "--ignore",
        "211",
    )
    checked = subprocess.run(
        ["luacheck", "--no-color", "--no-max-line-length", "--quiet", *redis, "--", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_every_file_belongs_to_a_script() -> None:
    """Every Lua file is part of a script."""
    used = {part for script in every_script() for part in (*script.parts, script.name)}
    used |= {file for script in every_script() for files in script.enclosing for file in files}
    assert used == set(FILES)


def code(text: str) -> str:
    """Return Lua without comments and strings."""
    return re.sub(r"--[^\n]*|'[^'\n]*'", " ", text)


def names(text: str) -> set[str]:
    """Return the names in capitals that a piece of Lua uses."""
    return set(_name.findall(code(text)))
