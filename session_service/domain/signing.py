"""Secrets and signatures of webhooks, by Standard Webhooks 1.0 (symmetric, ``v1``)."""

import base64
import binascii
import hashlib
import hmac

from session_service.domain.errors import ValidationFailed
from session_service.domain.ids import RandomBytes

SECRET_BYTES = (24, 64)  # the fewest and the most
SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret starts
SECRET_FORMAT = f"{SECRET_PREFIX} and 24 to 64 bytes in base64"
_NEW_SECRET_BYTES = 32


def new_secret(random: RandomBytes) -> str:
    """Make a secret, e.g. ``whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw``."""
    return SECRET_PREFIX + base64.b64encode(random(_NEW_SECRET_BYTES)).decode()


def read_secret(text: str, field: str = "secret") -> bytes:
    """Return the key in a secret.

    Raises ValidationFailed, which names the field and does not quote the secret.
    """
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    low, high = SECRET_BYTES
    if not text.startswith(SECRET_PREFIX) or not low <= len(key) <= high:
        raise ValidationFailed(field, f"must be {SECRET_FORMAT}")
    return key


def delivery_headers(event_id: str, timestamp: int, signatures: str) -> dict[str, str]:
    """Return the headers of a delivery.

    ``timestamp`` is when it is made, in epoch seconds, and ``signatures`` e.g. ``v1,… v1,…``.
    """
    return {
        "Content-Type": "application/cloudevents+json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures,
    }


def signature(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """Sign a delivery, e.g. ``v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=``.

    ``timestamp`` is when the delivery is made, in epoch seconds.
    """
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
