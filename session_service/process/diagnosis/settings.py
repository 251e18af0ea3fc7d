"""Checks of the settings alone: who reaches the service, secrets, proxies, browsers, webhooks."""

import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from session_service.access_settings import TOKEN_CHARACTERS
from session_service.domain.addresses import EVERYWHERE
from session_service.domain.findings import Finding, error, ok, warning
from session_service.environment import Setting
from session_service.process.listen import is_loopback
from session_service.settings import Settings

_DISTINCT_CHARACTERS = 8  # a random text of 32 hexadecimal digits has fewer once in 10^8
_WIDEST = {4: 8, 6: 16}  # prefix lengths of public networks; a shorter one is most of the Internet


def check_settings(settings: Settings, read: Iterable[Setting]) -> Iterator[Finding]:
    """Yield the findings about settings that are valid; ``read`` are their sources."""
    yield from _check_names(settings)
    yield from _check_exposure(settings)
    yield from _check_metrics(settings)
    yield from _check_browsers(settings)
    yield from _check_proxies(settings)
    yield from _check_secrets(settings, read)
    yield from _check_webhooks(settings)


def _check_names(settings: Settings) -> Iterator[Finding]:
    access = settings.access
    unused = list(settings.rates.unused(has_access=access.is_on))
    if access.session_token_secrets and not access.is_on:
        unused.append("SESSION_TOKEN_SECRET has no effect while access control is off")
    for each in settings.warnings:
        yield warning("settings", each, "correct the name, or remove the variable")
    for each in unused:
        yield warning("settings", each, "set AUTH=on, or remove the variable")
    if not settings.warnings and not unused:
        yield ok("settings", "all settings are allowed and have an effect")


def _check_exposure(settings: Settings) -> Iterator[Finding]:
    beyond = [host for host in settings.listen_on if not _is_local(host)]
    if not beyond:
        yield ok("exposure", "only this machine reaches the service")
    elif settings.access.is_on:
        yield ok("exposure", f"HOST is {','.join(beyond)}, and access control is on")
    elif settings.access.is_silenced:
        yield ok("exposure", f"HOST is {','.join(beyond)}, and AUTH=off says that this is meant")
    else:
        yield error(
            "exposure",
            f"HOST is {','.join(beyond)}, and access control is off: every machine that reaches"
            " the port can read and end every session",
            "set AUTH=on and create keys (docs/security.md), or HOST=127.0.0.1; AUTH=off if only"
            " machines that may do that reach the port",
        )


def _check_metrics(settings: Settings) -> Iterator[Finding]:
    if settings.metrics_port:
        yield ok(
            "metrics",
            f"METRICS_PORT {settings.metrics_port} shows the metrics to everyone who reaches it,"
            " without a credential",
        )


def _is_local(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:  # the start will say so
        return False
    return all(is_loopback(str(address[0])) for *_, address in found)


def _check_browsers(settings: Settings) -> Iterator[Finding]:
    is_open = not settings.access.is_on
    if "*" in settings.origins and is_open:
        yield error(
            "origins",
            "SESSION_CORS_ORIGINS is *, and access control is off: every web page that somebody"
            " opens here can read and end every session",
            "name the origins of your pages, or set AUTH=on",
        )
    if "*" in settings.hosts and is_open:
        yield warning(
            "hosts",
            "ALLOWED_HOSTS is *, and access control is off: a web page can reach the service under"
            " a name of its own (DNS rebinding)",
            "name the hosts under which clients reach the service, or set AUTH=on",
        )
    if not ("*" in (*settings.origins, *settings.hosts) and is_open):
        yield ok("browsers", "pages of other origins are limited to those that are allowed")


def _check_proxies(settings: Settings) -> Iterator[Finding]:
    rates = settings.rates
    wide = [
        str(network)
        for network in rates.proxies
        if network.prefixlen < _WIDEST[network.version] and not network.is_private
    ]
    is_behind_one = bool(settings.hosts) and all(map(_is_local, settings.listen_on))
    counts_addresses = rates.address is not None or settings.create_limit > 0
    if wide:
        yield error(
            "proxies",
            f"TRUSTED_PROXIES has {', '.join(wide)}: any client may choose its address by"
            " X-Forwarded-For, and so escape the limits of addresses",
            "name the networks of your proxies only, such as 10.0.0.0/8",
        )
    elif is_behind_one and counts_addresses and not rates.proxies:
        yield warning(
            "proxies",
            "ALLOWED_HOSTS has names, and only this machine reaches the service, so there is a"
            " proxy; without TRUSTED_PROXIES all clients share the limits of its address",
            "set TRUSTED_PROXIES=127.0.0.1/32,::1/128 (docs/proxies.md)",
        )
    else:
        trusted = ", ".join(map(str, rates.proxies)) or "no network"
        yield ok("proxies", f"{trusted} may name the addresses of clients")


def _check_secrets(settings: Settings, read: Iterable[Setting]) -> Iterator[Finding]:
    access = settings.access
    findings = []
    if access.has_weak_token:
        findings.append(
            warning(
                "secrets",
                "ELIZA_SERVER_AUTH_TOKEN is so short that it may be guessed",
                f"use a random one of {TOKEN_CHARACTERS} characters or more, e.g. of openssl rand"
                " -hex 32",
            )
        )
    jwt_secret = access.jwt.secret if access.jwt else None
    secrets = {
        "ELIZA_SERVER_AUTH_TOKEN": access.token,
        "JWT_SECRET": jwt_secret,
        "SESSION_TOKEN_SECRET": next(iter(access.session_token_secrets), None),
    }
    findings += [
        error(
            "secrets",
            f"{name} repeats a few characters, so it may be guessed",
            "use a random one, e.g. of openssl rand -hex 32",
        )
        for name, secret in secrets.items()
        if secret is not None and len(set(secret.value)) < _DISTINCT_CHARACTERS
    ]
    findings += [
        warning(
            "secret-files",
            f"every user of this machine can read the file of {each.name}, {each.file}",
            f"chmod o= {each.file}",
        )
        for each in read
        if each.file and Path(each.file).stat().st_mode & stat.S_IROTH
    ]
    yield from findings or [ok("secrets", "no secret is weak, or readable by others")]


def _check_webhooks(settings: Settings) -> Iterator[Finding]:
    webhooks = settings.webhooks
    findings = []
    if webhooks.allowed_networks == EVERYWHERE:
        findings.append(
            warning(
                "webhooks",
                "SESSION_WEBHOOKS_ALLOW_PRIVATE is true: whoever registers a webhook can make the"
                " service send requests to every private address",
                "name the networks of your endpoints in SESSION_WEBHOOKS_ALLOW_NETWORKS",
            )
        )
    if webhooks.is_paused:
        findings.append(
            warning(
                "webhooks",
                "SESSION_WEBHOOKS_PAUSED is true: nothing is delivered",
                "remove it once the restored copy may deliver",
            )
        )
    yield from findings or [ok("webhooks", "webhooks reach allowed addresses only")]
