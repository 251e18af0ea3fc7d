"""The structure of the product: which package imports which, sizes, and exceptions to the rules."""

import ast
import importlib
import io
import pkgutil
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import session_service
from session_service import api
from session_service.api.errors import ErrorCode
from session_service.domain.errors import ServiceError
from session_service.domain.timeouts import TimeoutPolicy
from session_service.web.http.errors import ERRORS
from session_service.web.rest.openapi import document

ROOT = Path(__file__).parents[2]
PRODUCT = ROOT / "session_service"
MAX_LINT_EXCEPTIONS = 19
MAX_LINES = 350
FOLDERS = ("session_service", "docs", "tests", "chaos", "benchmarks")
EXAMPLES = {  # names in comments that stand for others
    "rename.lua",
    "IS_FINAL",
    "SESSION_DATADIR",
    "SESSION_SERVICE_HOST",
    "SESSION_STORE_PORT_6379_TCP_ADDR",
}

# What the packages and modules at the top may import: imports point inwards.
LAYERS = {
    "domain": "",
    "logs": "",
    "terminal": "",
    "output": "terminal",
    "audit": "domain logs",
    "api": "domain",
    "client": "api domain",
    "console": "client api domain output",
    "metrics": "domain",
    "store": "domain metrics",
    "webhook_settings": "domain",
    "environment": "domain store webhook_settings",
    "jwt_keys": "domain",
    "access_settings": "environment jwt_keys",
    "rate_settings": "domain environment",
    "tracing_settings": "environment",
    "settings": "domain store environment access_settings rate_settings tracing_settings",
    "access": "domain store logs access_settings jwt_keys",
    "composition": "domain metrics store settings access",
    "web": "domain api metrics store logs audit access",
    "background": "domain metrics store logs",
    "tracing": "domain api metrics store web background logs tracing_settings",
    "process": (
        "domain metrics store environment settings composition access access_settings web"
        " background tracing logs audit output"
    ),
    "commands": "process console",
    "cli": "process commands",
    "__main__": "cli",
}


# Imports that LAYERS does not allow, but that a module makes by name when it needs them.
LATE = {
    ("client.memory", "process.in_memory"),  # the service in the process of a test
}


@cache
def modules() -> Mapping[str, Path]:
    """The files of the product by the name of their module, e.g. "store.keys"; "" is the root."""
    found = {}
    for path in PRODUCT.rglob("*.py"):
        parts = path.relative_to(PRODUCT).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").removesuffix(".")] = path
    return found


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """The modules of the product that each module imports, by a statement or by ``importlib``."""
    return {name: frozenset(_imports_of(path) - {name}) for name, path in modules().items()}


def _imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, path
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name.removeprefix("session_service.") in modules()
                found.add(name if is_module else node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # perhaps for importlib
    ours = {name for name in found if name.partition(".")[0] == "session_service"}
    return {name.removeprefix("session_service").removeprefix(".") for name in ours} & {*modules()}


def assert_no_cycle(graph: Mapping[str, set[str] | frozenset[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError("import cycle: " + " <- ".join(error.args[1])) from None


def test_no_module_imports_itself() -> None:
    """No module imports itself, directly or through others."""
    assert_no_cycle(imports())


def test_no_package_imports_itself() -> None:
    """No packages import each other; modules beside packages (store/keys.py) count alone."""
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    with_packages = {name.rpartition(".")[0] for name in packages}

    def unit(name: str) -> str:
        package = name.rpartition(".")[0]
        return name if name in packages or package in with_packages else package

    graph: dict[str, set[str]] = defaultdict(set)
    for name, imported in imports().items():
        graph[unit(name)] |= {unit(each) for each in imported} - {unit(name)}
    assert {"api", "domain", "store.client", "store.keys", "web.rest", "cli"} <= graph.keys()
    assert_no_cycle(graph)


def test_imports_point_inwards() -> None:
    """A package imports what LAYERS allows it, such as web the store, but not the reverse."""
    assert {name.partition(".")[0] for name in modules() if name} == LAYERS.keys()
    upward = [
        f"{name} imports {each}"
        for name, imported in imports().items()
        for each in imported
        if name and each and (top := name.partition(".")[0]) != (other := each.partition(".")[0])
        if other not in LAYERS[top].split()
        if (name, each) not in LATE
    ]
    assert upward == []


def test_the_client_of_the_store_knows_keys_and_scripts_only() -> None:
    """Executors run any script: they import nothing about sessions, events or webhooks."""
    known = {
        each.split(".")[1]
        for name, imported in imports().items()
        for each in imported
        if name.startswith("store.client.") and each.startswith("store.")
    }
    assert known <= {"client", "keys", "scripts"}


def test_files_are_short() -> None:
    """A file of the product has at most 350 lines; the aim is 300."""
    sources = [*PRODUCT.rglob("*.py"), *PRODUCT.rglob("*.lua")]
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in sources}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_lint_exceptions_are_few_and_say_why() -> None:
    """Inline and by file together, e.g. ``# noqa: BLE001 - the others go on``."""
    inline = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in PRODUCT.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"# *(noqa|type: *ignore|ruff:|mypy:|pragma:)", line)
    ]
    reason = r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \w.*|# type: ignore\[[a-z-]+\]  # \w.*"
    assert [line for line in inline if not re.search(reason, line)] == []
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    by_file = [
        code
        for pattern, codes in ruff["per-file-ignores"].items()
        for code in codes
        if pattern.startswith(("session_service", "*"))
    ]
    assert len(inline) + len(by_file) <= MAX_LINT_EXCEPTIONS, "\n".join([*inline, *by_file])


def comments_of(path: Path) -> Iterator[str]:
    """The comments of a file, and the strings of Python, of which docstrings are some."""
    if path.suffix == ".lua":
        yield from re.findall("--.*", path.read_text())
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.string


def names_of(path: Path) -> Iterator[str]:
    """The names in the code of a file."""
    if path.suffix == ".lua":
        yield from re.findall(r"\w+", re.sub("--.*", "", path.read_text()))
        return
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Constant(value=str(text)) if not re.search(r"\s", text):
                yield from re.findall(r"\w+", text)


def test_comments_name_files_and_constants_that_exist() -> None:
    """Comments name only files and constants that exist."""
    sources = [*PRODUCT.rglob("*.py"), *PRODUCT.rglob("*.lua")]
    docs = [(ROOT / "docs" / name).read_text() for name in ("settings.md", "webhooks.md")]
    names = {name for path in sources for name in names_of(path)} | EXAMPLES
    names.update(name for text in docs for name in re.findall(r"\w+", text))
    files = {str(path) for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources
        for text in comments_of(path)
        for name in re.findall(r"[\w/-]+\.(?:py|lua|md)\b|\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text)
        if name not in names
        if not any(file.endswith(f"/{name}") for file in files)
    ]
    assert missing == []


def test_packages_are_called_packages() -> None:
    """Rooms are those of Socket.IO, which sockets join."""
    word = re.compile(r"\b(this|each|every|three|inner|only|own) rooms?\b|\bhouse\b", re.IGNORECASE)
    assert [
        f"{path.relative_to(ROOT)}: {text}"
        for path in PRODUCT.rglob("*.py")
        for text in comments_of(path)
        if word.search(text)
    ] == []


def modules_of(package: str, path: list[str]) -> list[str]:
    """Return the names of the modules of a package and of the packages in it."""
    return [found.name for found in pkgutil.walk_packages(path, f"{package}.")]


def test_wire_types_need_neither_a_server_nor_a_store() -> None:
    """Wire types load domain, but no aiohttp, no Redis and no event loop."""
    names = modules_of("session_service.api", list(api.__path__))
    assert len(names) >= 7
    code = f"import sys, {', '.join(names)}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    foreign = ("aiohttp", "redis", "uvloop", "socketio", "structlog")
    assert [name for name in loaded if name.partition(".")[0] in foreign] == []
    own = {name for name in loaded if name.startswith("session_service.")}
    assert {name.split(".")[1] for name in own} == {"api", "domain"}


def subclasses(of: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for error in of.__subclasses__():
        yield error
        yield from subclasses(error)


def test_every_error_has_a_code() -> None:
    """Every subclass of ServiceError has a code, and every code is used."""
    for name in modules_of("session_service", list(session_service.__path__)):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    ours = {error for error in subclasses(ServiceError) if error.__module__.startswith("session_")}
    assert ours == ERRORS.keys()
    assert {spec.code for spec in ERRORS.values()} == set(ErrorCode)


def test_every_code_is_documented() -> None:
    """Every code is in the OpenAPI document and in docs/api.md with its status."""
    full = document(TimeoutPolicy(), has_access=True)
    for text in (full["info"]["description"], (ROOT / "docs/api.md").read_text()):
        rows = re.findall(r"^\| `([A-Z_]+)` \| (\d{3}) \| [`\w]", text, re.MULTILINE)
        assert rows == [(code.value, str(code.status)) for code in ErrorCode]


def test_every_error_says_what_went_wrong() -> None:
    """A class without a constructor has a message and, with few exceptions, details."""
    plain = [error for error in ERRORS if "__init__" not in vars(error)]
    assert len(plain) > len(ERRORS) / 2
    assert [error.__name__ for error in plain if not error.message] == []
    assert {error.__name__ for error in plain if not error.details} == {"BadRequest", "InvalidJson"}


def test_opentelemetry_is_loaded_only_for_traces() -> None:
    """Serving does not load ``tracing`` or an exporter; no other package uses OpenTelemetry.

    redis-py loads a part of it if it is installed.
    """
    code = "import sys, session_service.process.serve; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert "session_service.web.app" in loaded
    unwanted = ("opentelemetry.exporter", "session_service.tracing.")
    assert [name for name in loaded if name.startswith(unwanted)] == []
    using = {name for name, path in modules().items() if "from opentelemetry" in path.read_text()}
    assert using
    assert {name.partition(".")[0] for name in using} == {"tracing"}
