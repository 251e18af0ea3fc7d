"""Reads values from an environment, and collects the problems with them.

A secret can also be in a file, e.g. that of ``REDIS_URL_FILE=/run/secrets/redis``; no message
repeats it. settings.py lists the variables.
"""

import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from session_service.domain.addresses import EVERYWHERE, Network, read_networks
from session_service.domain.timeouts import to_minutes, to_ms
from session_service.domain.webhooks import WebhookPolicy
from session_service.store.client.url_options import StoreUrlError
from session_service.store.client.urls import masked, read_url
from session_service.webhook_settings import read_targets

# The secret settings. Each may also be in a file, and no message, repr or log repeats it.
SECRETS = (
    "REDIS_URL",
    "SESSION_WEBHOOKS",
    "ELIZA_SERVER_AUTH_TOKEN",
    "JWT_SECRET",
    "JWT_PUBLIC_KEY",  # is none, but is a file as often
    "SESSION_TOKEN_SECRET",
)
# Of a file that a mistaken ``…_FILE`` names; any other value may be the secret itself.
_is_path = re.compile(r"(/[\w.-]+){2,}").fullmatch

LOOPBACK = ("127.0.0.1", "::1")  # a machine without IPv6 does not have the second

# Variables of other programs with names like ours: that of a desktop's session manager, those of
# OpenTelemetry, of which a part is read here, and those
# that Kubernetes sets for a service, e.g. SESSION_SERVICE_HOST or SESSION_STORE_PORT_6379_TCP_ADDR.
_FOREIGN = re.compile(
    r"SESSION_MANAGER|OTEL_\w+|.*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)"
)
_MIN_SIMILARITY = (
    0.85  # the similarity, of 1, from which a name without SESSION_ counts as misspelt
)
_MIN_LENGTH = 8  # shorter names, e.g. HOST, are similar to too many others


class SecretText(str):
    """The value of a secret setting, which is not in its ``repr``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Setting(NamedTuple):
    """A setting as it was read, without secrets, e.g. ``Setting("PORT", "3000", "default")``."""

    name: str
    value: str  # "" if it is not set and has no default; of a secret, *** or the hosts of the store
    source: str  # default, environment, or file
    file: str = ""  # its path, if it can be shown


class Reader:
    """Reads variables by name. ``problems`` has a line for each value that is not allowed.

    Such a value reads as the default, so that all problems are found at once::

        reader = Reader({"PORT": "x"})
        reader.whole("PORT", 3000, 0, 65535)  # 3000
        reader.problems  # ["PORT='x' is not allowed: it must be a whole number, at least 0 and …"]
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._names: set[str] = set()  # of all settings that were read
        self._settings: dict[str, Setting] = {}
        self.problems: list[str] = []

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Return the settings that were read, in this order; that of a problem has no value."""
        refused = tuple(self.problems)
        return tuple(
            each._replace(value="") if _is_refused(each.name, refused) else each
            for each in self._settings.values()
        )

    def _record(self, name: str, value: object) -> None:
        path = self._get(f"{name}_FILE") if name in SECRETS else ""
        source = "file" if path else "environment" if self._get(name) else "default"
        text = "" if value is None else _without_secrets(str(value))
        self._settings[name] = Setting(name, text, source, path if _is_path(path) else "")

    def _get(self, name: str) -> str:
        self._names.add(name)
        return self._environment.get(name, "").strip()

    def is_set(self, name: str) -> bool:
        """Return whether a variable or, for a secret, its file is set."""
        return bool(self._get(name) or self._environment.get(f"{name}_FILE", "").strip())

    def secret(self, name: str) -> SecretText:
        """Return the value of a variable, or the content of the file that ``{name}_FILE`` names.

        Raises ValueError unless the name is one of SECRETS.
        """
        if name not in SECRETS:
            raise ValueError(f"{name} must be one of SECRETS")
        value = self._secret(name)
        self._record(name, "***" if value else "")
        return value

    def _secret(self, name: str) -> SecretText:
        value, path = self._get(name), self._get(f"{name}_FILE")
        if not path:
            return SecretText(value)
        problem = f"{name} must not be set as well" if value else ""
        if not problem:
            try:
                value = Path(path).read_text().strip()
                problem = "" if value else "the file is empty"
            except OSError as error:
                problem = f"the file cannot be read: {error.strerror}"
            except ValueError:  # not UTF-8
                problem = "the file cannot be read: it is not text"
        if problem:
            shown = path[:80] if _is_path(path) else "***"
            self.problems.append(f"{name}_FILE={shown!r} is not allowed: {problem}")
            return SecretText()
        return SecretText(value)

    def unknown(self) -> tuple[str, ...]:
        """Return a sentence for each variable that is probably a misspelt setting.

        E.g. ``SESSION_DATADIR is set, and there is no such setting; did you mean
        SESSION_DATA_DIR?``.
        """
        found = []
        for name in sorted(set(self._environment) - self._names):
            is_ours = name.startswith("SESSION_")
            if _FOREIGN.fullmatch(name) or not (is_ours or len(name) >= _MIN_LENGTH):
                continue
            others = [n for n in self._names if n.startswith("SESSION_") == is_ours]
            near = difflib.get_close_matches(name, others, 1, 0.6 if is_ours else _MIN_SIMILARITY)
            if is_ours or (near and near[0] not in self._environment):
                hint = f"; did you mean {near[0]}?" if near else ""
                found.append(f"{name} is set, and there is no such setting{hint}")
        return tuple(found)

    def text(
        self, name: str, default: Any, is_valid: Callable[[str], Any] = bool, allowed: str = ""
    ) -> Any:
        """Read a text; ``allowed`` describes the valid ones for the message of a problem."""
        value = self._get(name)
        if value and not is_valid(value):
            self._problem(name, value, allowed)
        elif value:
            self._record(name, value)
            return value
        self._record(name, default)
        return default

    def store_url(self, name: str) -> str | None:
        """Read the URL of a store, in which there may be a password; None if it is not set."""
        value = self.secret(name)
        try:
            address = read_url(value).address if value else ""
        except StoreUrlError as error:
            self._problem(name, masked(value), str(error))
            return None
        self._record(name, address)
        return value or None

    def names(self, name: str, pattern: str, allowed: str) -> tuple[str, ...]:
        """Read names separated by commas, e.g. ``a.example, *.b.example``, or ``*`` for all."""
        is_valid = re.compile(rf"\*|{pattern}(?:\s*,\s*{pattern})*").fullmatch
        value = self.text(name, "", is_valid, allowed)
        return tuple(each.strip() for each in value.split(",") if each)

    def addresses(self, name: str) -> tuple[str, ...]:
        """Read the addresses to listen on, e.g. ``127.0.0.1, ::1``; loopback if it is not set."""
        value = self.text(
            name,
            "",
            lambda text: all(_is_host(host) for host in _hosts(text)),
            "addresses such as 127.0.0.1 or ::, or names, separated by commas; PORT has the port",
        )
        if not value:
            self._record(name, ",".join(LOOPBACK))
        return _hosts(value) or LOOPBACK

    def size(self, name: str) -> int | None:
        """Read a number of bytes, e.g. ``512mb``; None if it is not set."""
        value = self.text(
            name,
            "",
            re.compile(r"[0-9]{1,12}(kb|mb|gb)?", re.IGNORECASE).fullmatch,
            "a number of bytes such as 536870912, 512mb or 2gb; 0 for no limit",
        ).lower()
        digits = value.rstrip("kmgb")
        factor = 1024 ** (" kmg".index(value[-2]) if value.endswith("b") else 0)
        return int(digits) * factor if digits else None

    def require(self, name: str, condition: bool, allowed: str) -> None:
        """Add a problem if a value does not fit another setting."""
        if not condition:
            value = self._get(name)
            if name in SECRETS:
                value = masked(value) if name == "REDIS_URL" else "***"
            self._problem(name, value, allowed)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Read one of a few words, in any case, e.g. ``INFO``; return it in lower case."""
        value = self.text(name, default, lambda text: text.lower() in choices, ", ".join(choices))
        return str(value).lower()

    def flag(self, name: str) -> bool:
        """Read ``true`` or ``false``; false if it is not set."""
        return self.choice(name, "false", ("true", "false")) == "true"

    def switch(self, name: str) -> bool:
        """Read ``1`` or ``0``, or ``true`` or ``false``; false if it is not set."""
        return self.choice(name, "0", ("1", "0", "true", "false")) in ("1", "true")

    def webhooks(self, default: WebhookPolicy) -> WebhookPolicy:
        """Read all settings of webhooks."""
        name = "SESSION_WEBHOOKS"
        targets, problems = read_targets(self.secret(name) or "[]")
        # These lines have no values, because endpoints have secrets.
        self.problems += [f"{name}{problem}" for problem in problems]
        seconds = self.number(f"{name}_RETRY_SECONDS", default.first_delay_ms / 1000, 0.01, 3600)
        hours = self.number(
            f"{name}_RETRY_HOURS", to_minutes(default.retry_ms) / 60, above=0, high=720
        )
        return WebhookPolicy(
            timeout_seconds=self.number(
                f"{name}_TIMEOUT_SECONDS", default.timeout_seconds, 0.1, 60
            ),
            first_delay_ms=round(1000 * seconds),
            retry_ms=to_ms(60 * hours),
            max_queued=self.whole(f"{name}_MAX_QUEUED", default.max_queued, 1, 10_000_000),
            allowed_networks=self.networks(f"{name}_ALLOW_NETWORKS", f"{name}_ALLOW_PRIVATE"),
            endpoints=targets,
            is_paused=self.flag(f"{name}_PAUSED"),
        )

    def networks(self, name: str, name_for_all: str = "") -> tuple[Network, ...]:
        """Read networks, e.g. ``10.0.0.0/8, fd00::/8``; return all if ``name_for_all`` is true."""
        value = self._get(name)
        self._record(name, value)
        if name_for_all and self.flag(name_for_all):
            return EVERYWHERE
        try:
            return read_networks(value)
        except ValueError:
            self._problem(name, value, "networks such as 10.0.0.0/8, fd00::/8, parted by commas")
            return ()

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Read a whole number from ``low`` to ``high``."""
        return int(self.number(name, default, low, high, whole=True))

    def number(
        self,
        name: str,
        default: float,
        low: float = -math.inf,
        high: float = math.inf,
        *,
        above: float | None = None,
        whole: bool = False,
    ) -> float:
        """Read a number from ``low`` to ``high``, or one that is greater than ``above``."""
        value = self._get(name)
        self._record(name, value or f"{default:.10g}")
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        too_low = number <= above if above is not None else number < low
        if not math.isfinite(number) or too_low or number > high or (whole and number % 1):
            floor = f"above {above:g}" if above is not None else f"at least {low:.10g}"
            ceiling = "" if high == math.inf else f" and at most {high:.10g}"
            self._problem(name, value, f"a {'whole ' if whole else ''}number, {floor}{ceiling}")
            return default
        return number

    def _problem(self, name: str, value: str, allowed: str) -> None:
        value = re.sub(r"(?<=:)[^:@/]+(?=@)", "***", value)  # a URL's password
        self.problems.append(f"{name}={value[:80]!r} is not allowed: it must be {allowed}")


def _is_refused(name: str, problems: tuple[str, ...]) -> bool:
    """Return whether a problem is about a setting, e.g. ``PORT='x' is …`` about PORT."""
    return any(re.match(rf"{name}(_FILE)?[^\w]", problem) for problem in problems)


def _without_secrets(text: str) -> str:
    """Return a text without the login and the query of a URL in it."""
    return re.sub(r"(?<=://)[^/\s,]*@|(?<=\?)\S+", "***", text) if "://" in text else text


def _hosts(text: str) -> tuple[str, ...]:
    hosts = [host.strip() for host in text.split(",") if host]
    return tuple(host[1:-1] if host[:1] + host[-1:] == "[]" else host for host in hosts)


def _is_host(host: str) -> bool:
    """Return whether a text is an IP address, or can be a host name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        return all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels)
    return True
