"""Runs a program as a container or a hardened unit does: another user, and nothing to write to."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.tools import need, skip_without

USER = 10001  # of the image
_SCRIPT = f"""
set -e
mount --make-rprivate /
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done
mount -o remount,bind,ro /
exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs \
    --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search \
    --ambient-caps=-all,+dac_read_search "$@"
"""


def read_only(*writable: Path) -> list[str]:
    """Return a command that runs a program as USER with a read-only file system but these folders.

    It keeps the right to read every file, because the interpreter and the product belong to the
    user who runs the tests. Skips the test if this machine does not permit it.
    """
    need("unshare", "setpriv")
    for folder in writable:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, USER, USER)
    command = ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", *map(str, writable), "--"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        skip_without("permission to make a mount namespace (root)")
    return command


def can_write(within: Sequence[str], folder: Path) -> bool:
    """Return whether a program in the sandbox can make a file in a folder."""
    probe = folder / "probe"
    done = subprocess.run([*within, "touch", str(probe)], capture_output=True, check=False)
    return done.returncode == 0
