"""Checks of this machine: open files, cores, memory, and the data directory."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from session_service.domain.findings import Finding, error, ok, warning
from session_service.process.listen import allowed_connections
from session_service.settings import Settings
from session_service.store.embedded import appendonly, memory
from session_service.store.embedded.program import EmbeddedServerError, find_binary

_LEAST_CONNECTIONS = 100  # with fewer, the service is of little use


def check_host(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about this machine, with the limits of this process."""
    yield _check_files(settings.max_connections)
    yield _check_cores(settings.workers)
    if settings.redis_url is None:
        yield _check_program()
        yield _check_memory(settings.max_memory)
        yield from _check_directory(settings)


def _check_files(connections: int) -> Finding:
    allowed = allowed_connections(connections)
    if allowed >= connections:
        return ok("open-files", f"the limit of open files allows {connections:,} connections")
    level = warning if allowed >= _LEAST_CONNECTIONS else error
    return level(
        "open-files",
        f"the limit of open files allows {allowed:,} connections, and SESSION_MAX_CONNECTIONS is"
        f" {connections:,}",
        "raise it (ulimit -n, LimitNOFILE in systemd), or lower the setting",
    )


def _check_cores(workers: int) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores and workers > cores:
        return warning(
            "workers",
            f"WEB_CONCURRENCY is {workers}, and there are {cores} cores",
            f"set it to {cores} at most: more workers only take memory",
        )
    return ok("workers", f"{workers} of {cores} cores")


def _check_program() -> Finding:
    try:
        return ok("store-program", f"the embedded store is {find_binary()}")
    except EmbeddedServerError as failed:
        return error("store-program", str(failed), "install one, or set REDIS_URL")


def _check_memory(limit: int | None) -> Finding:
    available = memory.available()
    if limit is None or 0 < limit <= available // 2:
        limit = available // 2 if limit is None else limit
        return ok("memory", f"the embedded store may take {limit / 2**20:,.0f} MiB")
    share = "no limit" if not limit else f"{limit / available:.0%} of the memory"
    return warning(
        "memory",
        f"SESSION_DATA_MAX_MEMORY is {share}: a rewrite of the store's file can take as much again,"
        " and the system may then end it",
        f"set it to {available // 2**21}mb at most, which is half of the memory",
    )


def _check_directory(settings: Settings) -> Iterator[Finding]:
    path = settings.data_dir.absolute()
    try:
        existing = next(each for each in (path, *path.parents) if each.exists())
    except PermissionError as denied:
        existing = Path(denied.filename).parent
    if not os.access(existing, os.W_OK | os.X_OK):
        yield error(
            "data-directory",
            f"this user cannot write to {existing}",
            f"chown {existing} to the user of the service, or set SESSION_DATA_DIR",
        )
        return
    if exposed := list(appendonly.exposed(path)):
        yield error(
            "data-directory",
            f"others on this machine can read {exposed[0]}, which has all sessions",
            f"chmod -R go= {path}",
        )
    elif not path.exists():
        yield ok("data-directory", f"{path} does not exist: the service will make it")
    else:
        yield ok("data-directory", f"only the user of the service can read {path}")
    used = sum(file.stat().st_size for file in (path / appendonly.DIRECTORY).glob("*"))
    free = shutil.disk_usage(existing).free
    if free < used:
        yield error(
            "disk",
            f"{free / 2**20:,.0f} MiB are free for {path}, and a rewrite of the store's file can"
            f" take {used / 2**20:,.0f} MiB",
            "make room on the disk",
        )
    else:
        yield ok("disk", f"{free / 2**20:,.0f} MiB are free for {path}")
