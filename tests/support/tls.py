"""A certificate for the tests, made once by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.tools import need


class Certificate(NamedTuple):
    """One for 127.0.0.1, signed by itself."""

    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Make one in a folder; skips the test if there is no openssl."""
    need("openssl")
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=store", "-addext", "subjectAltName=IP:127.0.0.1",
            "-out", made.certificate, "-keyout", made.key,
        ],
        capture_output=True,
        check=True,
    )  # fmt: skip
    return made
