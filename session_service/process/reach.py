"""The store as a command beside the service reaches it, which starts no store of its own."""

from urllib.parse import quote

from session_service.settings import Settings
from session_service.store.client.urls import read_url
from session_service.store.embedded.directory import DataDirectory


class UnreachableStoreError(Exception):
    """The command cannot reach the store; the message, one line, is for the operator."""


def store_url(settings: Settings) -> str:
    """Return the URL of the store: that of the settings, or of a running service's own store.

    Raises UnreachableStoreError if no service runs on the data directory, or the store is
    ``memory://``.
    """
    directory = DataDirectory(settings.data_dir)
    try:
        url = settings.redis_url or _embedded_url(directory)
    except OSError as error:
        raise UnreachableStoreError(
            f"the data directory {directory.path} cannot be used: {error.strerror}"
        ) from error
    if url is None:
        raise UnreachableStoreError(
            f"no service runs on {directory.path}: start it, or set SESSION_DATA_DIR"
        )
    if read_url(url).kind == "memory":
        raise UnreachableStoreError(
            "REDIS_URL is memory://, which only the service's own process can read"
        )
    return url


def _embedded_url(directory: DataDirectory) -> str | None:
    socket = directory.socket()
    return None if socket is None else f"unix://{quote(socket)}"
