"""Commands in Markdown: the blocks of a page, their commands, and the output that it shows.

A block in `sh` has commands; one in `console` has commands after `$ `, and their output below them.
An HTML comment before a block marks it:

    <!-- docs-test: AUTH=on -->                         the service runs with this setting
    <!-- docs-test: no service -->                      no service runs
    <!-- docs-test: not run, it needs Docker -->        the block is only listed, with this reason
    <!-- docs-test: instead docker-compose config -->   this command runs in place of the block
    <!-- docs-test: the output -->                      this is the output of the block before it
    <!-- docs-test: in a browser -->                    the block is JavaScript of a page

In an output, ids and times stand for any other, and `…` for any text. A `console` block shows what
a terminal does, so also what goes to standard error.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^( *)```([a-z]*) *$")
_MARK = re.compile(r"^ *<!-- docs-test: (.*) -->$")
_SETTING = re.compile(r"^[A-Z_]+=\S+$")
_MASKS = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?"), "<time>"),
    (re.compile(r"\bssk_\w+"), "<key>"),
    (re.compile(r" +"), " "),  # the width of a table's columns
    (re.compile(r"\bAPI key \w{8}\b"), "API key <id>"),
    (re.compile(r'("timeRemaining":) ?\d+'), r"\1<ms>"),
    (re.compile(r"\bid: \d+-\S+|\b1\d{12}-[0-9a-f]{2}-\d+\b"), "<event>"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as written, and the output that the page shows, if any."""

    text: str
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of commands, or of JavaScript that a browser runs."""

    page: Path
    line: int  # of the opening fence, from 1
    language: str
    text: str
    mark: str = ""
    output: str | None = None  # what all of its commands print together

    @property
    def commands(self) -> list[Command]:
        """Return its commands."""
        found = _console(self.text) if self.language == "console" else _shell(self.text)
        return list(found)

    @property
    def settings(self) -> tuple[str, ...]:
        """Return the settings of the service that it needs."""
        words = tuple(self.mark.split())
        return words if all(_SETTING.match(word) for word in words) else ()


@dataclass(slots=True)
class _Fence:
    indent: int
    language: str
    line: int
    mark: str
    lines: list[str] = field(default_factory=list)


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that have commands; raise ValueError if one is not declared."""
    previous: Block | None = None
    for fence in _fences(page):
        text = "\n".join(line[fence.indent :] for line in fence.lines)
        if fence.mark == "the output":
            if previous is None:
                raise ValueError(f"{page}:{fence.line}: no block of commands is before this output")
            previous = Block(
                page, previous.line, previous.language, previous.text, previous.mark, text
            )
            continue
        if previous:
            yield previous
        previous = None
        if fence.language in {"sh", "console"} or fence.mark == "in a browser":
            previous = Block(page, fence.line, fence.language, text, fence.mark)
        elif not fence.language and re.search(r"^\$ ", text, re.MULTILINE):
            raise ValueError(f"{page}:{fence.line}: declare this block: ```console")
        elif fence.language in {"bash", "shell", "zsh"}:
            raise ValueError(f"{page}:{fence.line}: write ```sh, or ```console")
        elif fence.mark:
            raise ValueError(f"{page}:{fence.line}: this block has no commands to mark")
    if previous:
        yield previous


def _fences(page: Path) -> Iterator[_Fence]:
    fence: _Fence | None = None
    mark = ""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if fence:
            if line.strip() == "```":
                yield fence
                fence = None
            else:
                fence.lines.append(line)
        elif opened := _FENCE.match(line):
            fence, mark = _Fence(len(opened[1]), opened[2], number, mark), ""
        elif marked := _MARK.match(line):
            mark = marked[1]
        elif line.strip():
            mark = ""
    if fence:
        raise ValueError(f"{page}:{fence.line}: the block has no end")


def _shell(text: str) -> Iterator[Command]:
    command = ""
    for line in text.splitlines():
        command = f"{command}\n{line}" if command else line
        if not command.strip() or re.fullmatch(r"\s*#.*", command):
            command = ""
        elif is_complete(command):
            yield Command(command)
            command = ""
    if command:
        raise ValueError(f"an unfinished command: {command}")


def _console(text: str) -> Iterator[Command]:
    command, output = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield Command(command, "\n".join(output))
            command, output = line[2:], []
        elif not is_complete(command):
            command = f"{command}\n{line.removeprefix('> ')}"
        else:
            output.append(line)
    if command:
        yield Command(command, "\n".join(output))


def is_complete(command: str) -> bool:
    """Return whether a shell would run the command, instead of waiting for its next line."""
    if command.endswith("\\"):
        return False
    checked = subprocess.run(
        ["bash", "-n"], input=command, text=True, capture_output=True, check=False
    )
    return checked.returncode == 0


def matches(expected: str, actual: str) -> bool:
    """Return whether an output is the one of the page, with ids and times masked."""
    for mask, name in _MASKS:
        expected, actual = mask.sub(name, expected), mask.sub(name, actual)
    pattern = ".*?".join(re.escape(part.strip("\n")) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, actual.strip(), re.DOTALL) is not None
