"""The image and the compose file, read without a container runtime."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_image_runs_as_a_number() -> None:
    """The user is a number, as Kubernetes refuses a name with runAsNonRoot."""
    users = re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["10001:10001"]


def test_the_image_listens_on_all_addresses() -> None:
    """The image listens on all addresses, as a published port does not reach loopback."""
    assert re.search(r"^ENV .*\bHOST=0\.0\.0\.0$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_compose_publishes_on_loopback() -> None:
    """Ports are published on loopback only; without a profile there is one, 3000."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert {name for name in ports if "profiles" not in services[name]} == {"sessions"}
    assert ports["sessions"] == ["127.0.0.1:3000:3000", "[::1]:3000:3000"]
    published = [port.rpartition(":")[0] for each in ports.values() for port in each]
    assert all(re.fullmatch(r"(127\.0\.0\.1|\[::1\]):\d+", each) for each in published)
    assert len(set(published)) == len(published)


def test_compose_without_a_profile_is_the_service_and_its_store() -> None:
    """Every other service of the compose file needs a profile."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {n for n, each in services.items() if "profiles" not in each} == {"sessions", "redis"}
    profiles = {profile for each in services.values() for profile in each.get("profiles", ())}
    assert profiles == {"observability", "sentinel", "cluster"}


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


def test_the_image_verifies_jwts_and_sends_traces() -> None:
    """The image has the extras jwt and otel, and otherwise what ``make run`` has."""
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
    assert {"pyjwt", "cryptography", "opentelemetry-exporter-otlp-proto-http"} <= added
    assert {"fakeredis", "pytest", "mypy"}.isdisjoint(added)
