"""The options in the query of a store's URL, e.g. ``ssl_ca_certs=/etc/ca.pem``.

They have redis-py's names. Mistakes that redis-py would only report at its first connection, such
as a missing file, are reported here.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl


class StoreUrlError(ValueError):
    """A URL that cannot be used; the message says what is allowed instead."""


def _text(value: str) -> str:
    if not value:
        raise ValueError
    return value


def _name(value: str) -> str:
    if not re.fullmatch("[!-~]+", value):
        raise ValueError
    return value


def _number(value: str) -> int:
    if not value.isdecimal():
        raise ValueError
    return int(value)


def _switch(value: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
        value.lower()
    ]


def _file(value: str) -> str:
    with Path(value).open("rb"):
        return value


def _folder(value: str) -> str:
    next(Path(value).iterdir(), None)
    return value


def _verification(value: str) -> str:
    return {name: name for name in ("none", "optional", "required")}[value]


def _tls_version(value: str) -> Any:
    import ssl  # noqa: PLC0415 - 10 ms, for URLs with TLS only

    return {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[
        value.lower().removeprefix("tlsv")
    ]


_OPTION = re.compile(r"[a-z][a-z_]{0,39}")  # any other name may be part of a password
_Kind = tuple[Callable[[str], Any], str]  # reads an option; says what is allowed
_A_FILE = _file, "the path of a file that the service can read"
_A_TEXT = _text, "a text that is not empty"
_A_SWITCH = _switch, "true or false"
_OPTIONS: dict[str, _Kind] = {
    "username": _A_TEXT,
    "password": _A_TEXT,
    "db": (_number, "a whole number"),
    "client_name": (_name, "a name without spaces"),
    "socket_keepalive": _A_SWITCH,
}
_TLS: dict[str, _Kind] = {
    "ssl_ca_certs": _A_FILE,
    "ssl_ca_path": (_folder, "the path of a directory that the service can read"),
    "ssl_certfile": _A_FILE,
    "ssl_keyfile": _A_FILE,
    "ssl_password": _A_TEXT,
    "ssl_cert_reqs": (_verification, "none, optional or required"),
    "ssl_check_hostname": _A_SWITCH,
    "ssl_min_version": (_tls_version, "TLSv1.2 or TLSv1.3"),
    "ssl_ciphers": _A_TEXT,
}
_SENTINEL: dict[str, _Kind] = {"sentinel_username": _A_TEXT, "sentinel_password": _A_TEXT}


def read_options(query: str, scheme: str) -> dict[str, Any]:
    """Return the options as redis-py takes them, e.g. ``{"db": 0}``; raises StoreUrlError."""
    allowed = _allowed(scheme)
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not _OPTION.fullmatch(name):
            raise StoreUrlError("a URL with options such as ?name=value&name=value")
        if name not in allowed:
            raise StoreUrlError(f"a URL without the option {name}: {_instead(name, scheme)}")
        if name in found:
            raise StoreUrlError(f"a URL with one {name}")
        read, what = allowed[name]
        try:
            found[name] = read(value)
        except (ValueError, KeyError, OSError):
            raise StoreUrlError(f"a URL whose option {name} is {what}") from None
    return found


def _allowed(scheme: str) -> Mapping[str, "_Kind"]:
    base, _, kind = scheme.partition("+")
    allowed = dict(_OPTIONS)
    if base == "unix":
        del allowed["socket_keepalive"]
    if base == "rediss":
        allowed |= _TLS
    if kind == "sentinel":
        allowed |= _SENTINEL
    if kind == "cluster":
        for name in ("db", "ssl_ca_path", "ssl_password"):  # redis-py has none for a cluster
            allowed.pop(name, None)
    return allowed


def _instead(name: str, scheme: str) -> str:
    if (name in ("ssl", "tls") or name in _TLS) and "rediss" not in scheme and scheme != "unix":
        return f"{scheme.replace('redis', 'rediss', 1)}:// is for TLS"
    if "timeout" in name:
        return "SESSION_STORE_TIMEOUT_SECONDS sets the timeout"
    return f"{scheme}:// allows {', '.join(sorted(_allowed(scheme)))}"


def check_tls(options: Mapping[str, Any]) -> None:
    """Load the files that the options name; raises StoreUrlError.

    redis-py would load them at each connection, and fail at each.
    """
    import ssl  # noqa: PLC0415 - 10 ms, for URLs with TLS only

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if key and not certificate:
        raise StoreUrlError("a URL whose option ssl_keyfile comes with ssl_certfile")
    try:
        context.load_verify_locations(options.get("ssl_ca_certs"), options.get("ssl_ca_path"))
    except (ssl.SSLError, TypeError):
        if "ssl_ca_certs" in options:
            raise StoreUrlError(
                "a URL whose option ssl_ca_certs is a file with certificates (PEM)"
            ) from None
    try:
        if certificate:
            context.load_cert_chain(certificate, key, lambda: options.get("ssl_password", ""))
    except (OSError, ValueError):  # ssl.SSLError is the former
        raise StoreUrlError(
            "a URL whose options ssl_certfile, ssl_keyfile and ssl_password are a certificate"
            " (PEM), its key, and the password of the key if it has one"
        ) from None
    try:
        context.set_ciphers(options.get("ssl_ciphers", "DEFAULT"))
    except ssl.SSLError:
        raise StoreUrlError("a URL whose option ssl_ciphers is a list of OpenSSL's") from None
