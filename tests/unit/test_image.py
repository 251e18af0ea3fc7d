"""The image and the compose file, read without a container runtime."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_image_runs_as_a_number() -> None:
    """The user is a number, as Kubernetes refuses a name with runAsNonRoot."""
    users = re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["10001:10001"]


def test_the_image_listens_on_all_addresses() -> None:
    """The image listens on all addresses, as a published port does not reach loopback."""
    assert re.search(r"^ENV .*\bHOST=0\.0\.0\.0$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_compose_publishes_on_loopback() -> None:
    """The port is published on both loopback addresses and no other."""
    text = (ROOT / "docker-compose.yml").read_text()
    (ports,) = re.findall(r"^    ports: (.*)$", text, re.MULTILINE)
    assert ports == '["127.0.0.1:3000:3000", "[::1]:3000:3000"]'


def test_the_image_is_built_of_files_that_docker_sees() -> None:
    """All files that the Dockerfile copies exist, and .dockerignore does not exclude them."""
    copied = re.findall(
        r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = " ".join(copied).split()
    allowed = (ROOT / ".dockerignore").read_text().split()
    assert len(sources) >= 4
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed


def test_the_image_verifies_jwts() -> None:
    """The image has the extra jwt, and otherwise the packages and versions of ``make run``."""
    assert "-r requirements/image.txt" in (ROOT / "Dockerfile").read_text()
    image, run = (
        set(
            re.findall(
                r"^[a-z0-9-]+==\S+", (ROOT / "requirements" / name).read_text(), re.MULTILINE
            )
        )
        for name in ("image.txt", "run.txt")
    )
    assert run < image
    added = {each.partition("==")[0] for each in image - run}
    assert added == {"pyjwt", "cryptography", "cffi", "pycparser"}
