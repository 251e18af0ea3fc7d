"""A certificate for the tests, made once with openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.tools import need


class Certificate(NamedTuple):
    """The files of a self-signed certificate and of its key."""

    certificate: Path
    key: Path


NAME = "chat.example.org"


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate for 127.0.0.1 and NAME; skip the test if openssl is missing."""
    need("openssl")
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=store", "-addext", f"subjectAltName=IP:127.0.0.1,DNS:{NAME}",
            "-out", made.certificate, "-keyout", made.key,
        ],
        capture_output=True,
        check=True,
    )  # fmt: skip
    return made
