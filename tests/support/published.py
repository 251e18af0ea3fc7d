"""Files of packages published on npm, fetched once and checked by their hash."""

import base64
import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.tools import need, skip_without


def published(config: pytest.Config, package: str, sha512: str, *names: str) -> list[bytes]:
    """Return the contents of files of a package, such as ``@elizaos/client@1.7.2``.

    ``names`` are paths in the package, and ``sha512`` is the hash of its archive in Base64, as in
    npm's lock files. Skips the test if npm cannot fetch the package.
    """
    need("npm")
    folder = config.cache.mkdir("published")
    name, _, version = package.removeprefix("@").replace("/", "-").rpartition("@")
    archive = folder / f"{name}-{version}.tgz"
    if not archive.exists() or _sha512(archive) != sha512:
        done = subprocess.run(
            ["npm", "pack", package], cwd=folder, capture_output=True, timeout=60, check=False
        )
        if done.returncode:
            skip_without(f"{package} from npm")
    assert _sha512(archive) == sha512
    with tarfile.open(archive) as packed:
        files = [packed.extractfile(f"package/{each}") for each in names]
        return [file.read() for file in files if file is not None]


def _sha512(file: Path) -> str:
    return base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
