"""Clients that four published generators make of our document pass their type checkers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.rest.openapi import document
from tests.support.npm import JS, installed
from tests.support.tools import need, skip_without

PUBLISHED_IDS = {
    "createSession",
    "listSessions",
    "getSession",
    "endSession",
    "renewSession",
    "updateSessionTimeout",
    "sessionHeartbeat",
    "sendSessionMessage",
    "getSessionMessages",
    "getSessionsHealth",
}


@pytest.fixture(scope="module")
def document_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("document") / "openapi.json"
    file.write_text(json.dumps(document(TimeoutPolicy())))
    return file


@pytest.fixture(scope="module")
def node_folder(pytestconfig: pytest.Config) -> Path:
    return installed(pytestconfig, "generators")


@pytest.fixture(scope="module")
def openapi_generator(pytestconfig: pytest.Config) -> Path:
    """The jar of openapi-generator, from its Python package."""
    need("java")
    folder = pytestconfig.cache.mkdir("openapi-generator")
    jar = folder / "openapi_generator_cli" / "openapi-generator.jar"
    if not jar.exists():
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
                "--target", folder, "-r", JS / "generators" / "openapi-generator.txt",
            ],
            capture_output=True,
            timeout=100,
            check=False,
        )  # fmt: skip
        if done.returncode:
            skip_without("openapi-generator-cli from PyPI")
    return jar


def run(*command: str | Path, cwd: Path) -> None:
    """Run a program; fail with its output."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_types(node_folder: Path, file: Path) -> None:
    """Type-check TypeScript with the packages of the generators."""
    (file.parent / "node_modules").symlink_to(node_folder / "node_modules")
    options = "--noEmit --strict --skipLibCheck --target es2022 --module esnext"
    compiler = node_folder / "node_modules" / ".bin" / "tsc"
    run(compiler, *options.split(), "--moduleResolution", "bundler", file, cwd=file.parent)


def test_openapi_generator_for_typescript(
    openapi_generator: Path, node_folder: Path, document_file: Path, tmp_path: Path
) -> None:
    """typescript-axios of openapi-generator compiles."""
    options = f"-g typescript-axios -i {document_file} -o ts".split()
    run("java", "-jar", openapi_generator, "generate", *options, cwd=tmp_path)
    check_types(node_folder, tmp_path / "ts" / "index.ts")


def test_openapi_generator_for_python(
    openapi_generator: Path, document_file: Path, tmp_path: Path
) -> None:
    """Python of openapi-generator passes mypy, and a cursor may be a number or a time."""
    options = f"-g python -i {document_file} -o .".split()
    run("java", "-jar", openapi_generator, "generate", *options, cwd=tmp_path)
    run(
        sys.executable, "-m", "mypy", "--ignore-missing-imports", "--cache-dir", tmp_path / "cache",
        tmp_path / "openapi_client", cwd=tmp_path,
    )  # fmt: skip
    parameter = next((tmp_path / "openapi_client" / "models").glob("*before_parameter.py"))
    assert "Union[datetime, int]" in parameter.read_text()


def test_openapi_typescript(node_folder: Path, document_file: Path, tmp_path: Path) -> None:
    """openapi-typescript compiles."""
    program = node_folder / "node_modules" / ".bin" / "openapi-typescript"
    run(program, document_file, "-o", tmp_path / "api.ts", cwd=node_folder)
    check_types(node_folder, tmp_path / "api.ts")


def test_hey_api(node_folder: Path, document_file: Path, tmp_path: Path) -> None:
    """@hey-api/openapi-ts compiles."""
    program = node_folder / "node_modules" / ".bin" / "openapi-ts"
    run(program, "-i", document_file, "-o", tmp_path / "api", cwd=node_folder)
    check_types(node_folder, tmp_path / "api" / "index.ts")


def test_operations_have_the_published_names(document_file: Path) -> None:
    """Methods of a generated client have the names that the published document yields."""
    paths = json.loads(document_file.read_text())["paths"]
    operations = [operation for path in paths.values() for operation in path.values()]
    assert {op["operationId"] for op in operations} >= PUBLISHED_IDS
    tags = {op["operationId"]: op["tags"] for op in operations}
    assert {name: tags[name] for name in PUBLISHED_IDS} == {
        name: ["messaging"] for name in PUBLISHED_IDS
    }
