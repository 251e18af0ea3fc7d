"""README.md and docs/: links that lead somewhere, and blocks that `make docs-test` can read."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.blocks import Command, blocks, matches

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("deploy/**/*.md")])

_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


@cache
def prose(page: Path) -> str:
    """Return a page without its blocks of code and its code in lines."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: code[0] if "](" not in code[0] else "", text)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#{1,6} +(.+)$", prose(page), re.MULTILINE)
    found: list[str] = []
    for heading in headings:
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is to a file of the repository, and its anchor to a heading there."""
    broken = []
    for found in _LINK.findall(prose(page)):
        link = unquote(found[0] or found[1])
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_index_has_every_guide() -> None:
    """docs/README.md links to every page in docs/, except to the wheel's description."""
    index = ROOT / "docs" / "README.md"
    linked = {link.partition("#")[0] for link, _ in _LINK.findall(prose(index))}
    guides = {page.name for page in index.parent.glob("*.md")} - {"README.md", "package.md"}
    assert guides - linked == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_commands_is_declared(page: Path) -> None:
    """`make docs-test` finds the commands of each page: blocks are declared, and complete."""
    for block in blocks(page):
        assert block.language == "js" or block.commands, block


def test_a_block_has_the_commands_that_a_shell_would_run(tmp_path: Path) -> None:
    """A command may go over several lines; a mark and an output belong to their block."""
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- docs-test: AUTH=on -->\n```sh\n# a comment\ncurl -d '{\n}' \\\n  $api\nls\n```\n\n"
        "It prints:\n\n<!-- docs-test: the output -->\n```json\n{}\n```\n\n"
        "```console\n$ a \\\n  b\none\n$ c\n```\n"
    )
    first, second = blocks(page)
    assert first.settings == ("AUTH=on",)
    assert first.commands == [Command("curl -d '{\n}' \\\n  $api"), Command("ls")]
    assert first.output == "{}"
    assert second.commands == [Command("a \\\n  b", "one"), Command("c", "")]


def test_outputs_are_compared_without_ids_and_times() -> None:
    """Another id or time is the same output, another word is not, and … stands for any text."""
    shown = '{"sessionId":"3f8a1c52-9b0e-4d67-a2f4-7c1e5b90d836",…,"renewalCount":2}'
    printed = '{"sessionId":"00000000-0000-4000-8000-000000000000","x":[],"renewalCount":2}\n'
    assert matches(shown, printed)
    assert not matches(shown, printed.replace(":2", ":3"))
    assert matches("at 2026-01-15T10:30:45.123Z", "at 2027-02-01T00:00:00.000Z")
