"""Packages from npm that tests need, installed once from lock files under ``js/``."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import need, skip_without

JS = Path(__file__).parent / "js"


def installed(config: pytest.Config, name: str) -> Path:
    """Return a folder whose ``node_modules`` are those of ``js/<name>/package-lock.json``.

    Skips the test if Node is missing or npm cannot fetch the packages.
    """
    need("node", "npm")
    lock = JS / name / "package-lock.json"
    folder = config.cache.mkdir(f"npm-{name}")
    copy, marker = folder / lock.name, folder / "node_modules" / ".package-lock.json"
    if marker.exists() and copy.read_bytes() == lock.read_bytes():
        return folder
    shutil.copytree(lock.parent, folder, dirs_exist_ok=True)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        timeout=100,
        check=False,
    )
    if done.returncode:
        skip_without(f"the packages of {name} from npm")
    return folder
