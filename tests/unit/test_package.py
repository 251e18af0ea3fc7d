"""The wheel and the source distribution, and their description on an index."""

import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    code = (
        "import sys, hatchling.build as b; [f(sys.argv[1]) for f in (b.build_wheel, b.build_sdist)]"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, timeout=60)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> EmailMessage:
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return BytesParser(policy=default).parsebytes(wheel.read(name))


def test_pip_installs_what_make_does(metadata: EmailMessage) -> None:
    """The wheel's requirements are those from which the lock file was made."""
    required = {
        re.split(r"[\[>=<;! ]", line)[0]
        for line in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in line
    }
    lock = (ROOT / "requirements" / "run.txt").read_text()
    packages = re.findall(r"^([a-z0-9-]+)==[^\n]*\\\n((?:    .*\n?)+)", lock, re.MULTILINE)
    locked = {name for name, rest in packages if "session-service (pyproject.toml)" in rest}
    assert required == locked
    assert "python-socketio" in required


def test_an_index_can_show_it(metadata: EmailMessage) -> None:
    """The description is Markdown without links that need the repository."""
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert text.startswith("# session-service\n")
    assert re.findall(r"\]\((?!https?://)[^)]*\)", text) == []
    assert metadata["License-Expression"] == "Apache-2.0"
    classifiers = metadata.get_all("Classifier", [])
    for classifier in (
        "Typing :: Typed",
        "Framework :: AsyncIO",
        "Programming Language :: Python :: 3.11",
    ):
        assert classifier in classifiers


def test_the_wheel_has_all_that_runs(built: tuple[Path, Path]) -> None:
    """The wheel has every file of the package, with the scripts and py.typed."""
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("session_service/")}
    package = ROOT / "session_service"
    expected = {
        file.relative_to(ROOT).as_posix()
        for file in package.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert names == expected
    assert {"session_service/py.typed", "session_service/store/lua/end.lua"} <= names


def test_the_source_distribution_has_the_documentation(built: tuple[Path, Path]) -> None:
    """The source distribution has the documentation that its README links to."""
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    readme = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    for link in links:
        assert any(name == link or name.startswith(link) for name in names), link
