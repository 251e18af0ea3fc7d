"""``session-service backup``: copies the data of the embedded store, while it runs or not."""

import sys
import time
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from session_service.output import print_json
from session_service.settings import Settings
from session_service.store.embedded import appendonly
from session_service.store.embedded.backup import BackupError, copy_data
from session_service.store.embedded.directory import DataDirectory
from session_service.store.embedded.program import EmbeddedServerError, find_binary
from session_service.store.keys import Keys
from session_service.store.scripts.dataset import PROBE

_WRITTEN_MS = 5000  # for the server to write out all that it has acknowledged
_DELAY_SECONDS = 2.0  # for which it may delay that


def run(settings: Settings, *, directory: str, as_json: bool) -> int:
    """Copy the data to a new directory; return the exit code.

    0: the copy is complete and was verified. 1: there is no copy. 2: there is nothing to copy here.
    """
    data_dir, target = DataDirectory(settings.data_dir), Path(directory).absolute()
    if settings.redis_url is not None:
        return _fail(
            "REDIS_URL is set, and that store has its own means: for example"
            " `redis-cli -u URL --rdb sessions.rdb` (docs/backup.md)",
            2,
        )
    if not (data_dir.path / appendonly.DIRECTORY).is_dir():
        return _fail(f"there are no data in {data_dir.path}: set SESSION_DATA_DIR", 2)
    started = time.monotonic()
    try:
        socket = data_dir.socket()
        if socket is not None:
            _wait_until_written(socket, settings.key_prefix)
        copied = copy_data(data_dir.path, target, find_binary())
    except OSError as error:
        return _fail(f"no backup: {error.filename or target}: {error.strerror}")
    except RedisError as error:
        return _fail(f"no backup: the running store does not answer: {error}")
    except (BackupError, EmbeddedServerError) as error:
        return _fail(f"no backup: {error}")
    seconds = time.monotonic() - started
    if as_json:
        facts = copied._asdict()
        print_json({"directory": str(target), **facts, "seconds": round(seconds, 3)})
    else:
        sys.stdout.write(
            f"{target}: {copied.files} files, {copied.size / 2**20:,.1f} MiB, verified, in"
            f" {seconds:.1f} s\n"
        )
    return 0


def _wait_until_written(socket: str, prefix: str) -> None:
    """Wait until all acknowledged changes are in the file: a server may delay that for seconds.

    Raises BackupError if the server does not confirm it in time.
    """
    (key,) = Keys(prefix).of_shard(PROBE.keys, "00").names()
    with Redis.from_url(f"unix://{quote(socket)}", socket_timeout=2 * _WRITTEN_MS / 1000) as client:
        try:
            client.set(key, "x", px=1000)
            written, _ = client.execute_command("WAITAOF", 1, 0, _WRITTEN_MS)
        except ResponseError:  # it is older than Redis 7.2, or full
            time.sleep(_DELAY_SECONDS)
            return
    if not written:
        raise BackupError(
            f"the running store did not write its changes to disk within {_WRITTEN_MS // 1000} s;"
            " look at the disk, and try again"
        )


def _fail(text: str, code: int = 1) -> int:
    sys.stderr.write(f"{text}\n")
    return code
