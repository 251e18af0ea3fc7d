"""A certificate for the tests, made once with openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.tools import need


class Certificate(NamedTuple):
    """The files of a self-signed certificate and of its key."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, *names: str) -> Certificate:
    """Make a certificate for 127.0.0.1 and the names; skip the test if openssl is missing."""
    need("openssl")
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    subjects = ",".join(["IP:127.0.0.1", *(f"DNS:{name}" for name in names)])
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=store", "-addext", f"subjectAltName={subjects}",
            "-out", made.certificate, "-keyout", made.key,
        ],
        capture_output=True,
        check=True,
    )  # fmt: skip
    return made
