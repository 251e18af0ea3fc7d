"""Huge pages for the embedded store."""

import os

import pytest

from session_service.store.embedded.program import huge_pages


def system(name: str, release: str) -> os.uname_result:
    return os.uname_result((name, "host", release, "#1 SMP", "x86_64"))


@pytest.mark.parametrize("release", ["5.8.0", "5.15.0-91-generic", "6.18.44-fc", "10.0"])
def test_linux_has_them(release: str) -> None:
    """The server keeps huge pages where a write after a fork copies only 4 KB of one."""
    assert huge_pages(system("Linux", release)) == ["--disable-thp", "no"]


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("Linux", "4.18.0-553.el8"),
        ("Linux", "5.7.19"),
        ("Linux", "?"),
        ("Darwin", "23.5"),
    ],
)
def test_other_systems_do_not(name: str, release: str) -> None:
    """Elsewhere the server's own default holds, which is not to use them."""
    assert huge_pages(system(name, release)) == []
