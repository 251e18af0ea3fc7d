"""The settings of limits on requests, and of the proxies that name the addresses of clients."""

import msgspec

from session_service.domain.addresses import Network
from session_service.domain.rates import ALLOWED_LIMITS, RateLimit
from session_service.environment import Reader


class RateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests are served; None is no limit."""

    user: RateLimit | None = None
    key: RateLimit | None = None  # of an API key
    address: RateLimit | None = None  # without a valid credential
    proxies: tuple[Network, ...] = ()  # whose X-Forwarded-For is believed

    def unused(self, *, has_access: bool) -> tuple[str, ...]:
        """Return a sentence for each limit that is set without effect."""
        names = [name for name in ("user", "key") if getattr(self, name)]
        return tuple(
            f"RATE_LIMIT_{name.upper()} has no effect while access control is off"
            for name in names
            if not has_access
        )


def read_rates(reader: Reader) -> RateSettings:
    """Read the settings of limits on requests; problems go to the reader."""

    def limit(name: str) -> RateLimit | None:
        text = reader.text(name, "", _is_limit, ALLOWED_LIMITS)
        return RateLimit.parse(text) if text else None

    return RateSettings(
        user=limit("RATE_LIMIT_USER"),
        key=limit("RATE_LIMIT_KEY"),
        address=limit("RATE_LIMIT_ADDRESS"),
        proxies=reader.networks("TRUSTED_PROXIES"),
    )


def _is_limit(text: str) -> bool:
    try:
        RateLimit.parse(text)
    except ValueError:
        return False
    return True
