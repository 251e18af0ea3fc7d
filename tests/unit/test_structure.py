"""The structure of the product: which package may import which, and what every error has."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import session_service
from session_service import api
from session_service.api.errors import ErrorCode
from session_service.domain.errors import ServiceError
from session_service.web.http.errors import ERRORS


def modules_of(package: str, path: list[str]) -> list[str]:
    """The names of the modules of a package and of the packages in it."""
    return [found.name for found in pkgutil.walk_packages(path, f"{package}.")]


def test_wire_types_need_neither_a_server_nor_a_store() -> None:
    """The client imports them: they load domain, and no aiohttp, no Redis, no event loop."""
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
    """Every subclass of ServiceError, wherever it is defined, has its row; every code is used."""
    for name in modules_of("session_service", list(session_service.__path__)):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    ours = {error for error in subclasses(ServiceError) if error.__module__.startswith("session_")}
    assert ours == ERRORS.keys()
    assert {spec.code for spec in ERRORS.values()} == set(ErrorCode)


def test_every_error_says_what_went_wrong() -> None:
    """A class without a constructor of its own has a message and, but for a few, details."""
    plain = [error for error in ERRORS if "__init__" not in vars(error)]
    assert len(plain) > len(ERRORS) / 2
    assert [error.__name__ for error in plain if not error.message] == []
    assert {error.__name__ for error in plain if not error.details} == {"BadRequest", "InvalidJson"}
