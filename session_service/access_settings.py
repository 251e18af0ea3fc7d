"""The settings of access control: whether it is on, and the secrets that verify credentials."""

import msgspec

from session_service.environment import Reader


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How requests are authenticated. By default access control is off.

    It is on with ``AUTH=on``, and if a setting is there that only access control needs.
    ``is_silenced`` is ``AUTH=off``, with which the start does not warn that it is off.
    """

    is_on: bool = False
    is_silenced: bool = False
    token: "Secret | None" = None  # ELIZA_SERVER_AUTH_TOKEN, a key with all scopes


class Secret(msgspec.Struct, frozen=True):
    """A secret value, which is not in its ``repr``."""

    value: str

    def __repr__(self) -> str:
        return "Secret(***)"


def read_access(reader: Reader) -> AccessSettings:
    """Read the settings of access control; problems go to the reader."""
    auth = reader.choice("AUTH", "", ("on", "off"))
    token = reader.secret("ELIZA_SERVER_AUTH_TOKEN")
    implied = [name for name, value in {"ELIZA_SERVER_AUTH_TOKEN": token}.items() if value]
    reader.require("AUTH", not (auth == "off" and implied), f"on while {', '.join(implied)} is set")
    return AccessSettings(
        is_on=auth == "on" or bool(implied),
        is_silenced=auth == "off",
        token=Secret(token) if token else None,
    )
