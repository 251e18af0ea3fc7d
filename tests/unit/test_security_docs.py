"""docs/security.md: complete, and in step with the routes."""

import re
from collections import Counter
from pathlib import Path

from session_service.domain.credentials import Permission
from session_service.web.rest.route import MESSAGING
from session_service.web.rest.table import ROUTES

DOCS = Path(__file__).parents[2] / "docs"

# The number of requirements in each section of ASVS 5.0.0, by chapter.
ASVS = {
    1: (2, 10, 12, 3, 3),
    2: (3, 3, 5, 2),
    3: (1, 3, 5, 8, 8, 1, 5),
    4: (5, 5, 2, 4),
    5: (1, 6, 3, 3),
    6: (3, 12, 8, 6, 8, 4, 2, 4),
    7: (3, 4, 2, 5, 3, 2),
    8: (4, 4, 3, 2),
    9: (3, 4),
    10: (2, 3, 5, 16, 5, 2, 3),
    11: (4, 5, 5, 4, 2, 2, 2),
    12: (5, 2, 5),
    13: (4, 6, 4, 7),
    14: (2, 8, 3),
    15: (5, 5, 7, 4),
    16: (1, 5, 4, 3, 4),
    17: (2, 8, 2),
}
STATES = {"met", "partly", "not met", "operator", "n/a"}


def read(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def requirements(cell: str) -> list[str]:
    """Return the requirements of a row: a list of single ones, and of ranges with an en dash."""
    found = []
    for part in cell.split(", "):
        first, _, last = part.partition("–")  # noqa: RUF001 - the docs write ranges with it
        section, _, number = first.rpartition(".")
        end = int(last.rpartition(".")[2]) if last else int(number)
        found += [f"{section}.{n}" for n in range(int(number), end + 1)]
    return found


def test_every_requirement_of_asvs_is_covered() -> None:
    """Each of the 345 requirements of version 5.0.0 has one row with a state and a reason."""
    rows = re.findall(
        r"^\| (\d+\.\d+\.\d[^|]*) \| ([^|]*) \| (.*) \|$", read("security.md"), re.MULTILINE
    )
    covered = Counter(each for cell, _, _ in rows for each in requirements(cell))
    expected = [
        f"{chapter}.{section}.{number}"
        for chapter, sizes in ASVS.items()
        for section, size in enumerate(sizes, 1)
        for number in range(1, size + 1)
    ]
    assert covered == Counter(expected)
    assert {state for _, state, _ in rows} == STATES
    assert all(reason for _, _, reason in rows)


def test_the_scopes_have_all_operations() -> None:
    """The table of scopes lists each operation that needs one, and every scope."""
    rows = dict(
        re.findall(
            r"^\| (`[a-z:]+`(?:, `[a-z:]+`)*) \| (.*) \|$", read("security.md"), re.MULTILINE
        )
    )
    listed = {scope for cell in rows for scope in re.findall(r"`([^`]+)`", cell)}
    assert listed == set(Permission)
    for route in ROUTES:
        if isinstance(route.access, Permission):
            operation = f"`{route.method} {route.path.removeprefix(MESSAGING)}`"
            assert operation in rows[f"`{route.access}`"], route.access
