"""How long a session lasts: the timeout rules as arithmetic, in integer milliseconds.

The contract has the rules, in "Create" and "Renewal, heartbeat, timeout". The scripts in
``store/lua`` apply ``expires_at`` atomically; ``tests/model`` compares them with this module.
"""

from functools import lru_cache

import msgspec

from session_service.domain.errors import ValidationFailed

MS_PER_MINUTE = 60_000


def to_ms(minutes: float) -> int:
    """Convert minutes, e.g. ``1.5``, to whole milliseconds, at least one."""
    return max(1, round(minutes * MS_PER_MINUTE))


def to_minutes(ms: int) -> float:
    """Convert milliseconds to minutes, e.g. ``90_000`` to 1.5, and ``1_800_000`` to the int 30."""
    minutes, rest = divmod(ms, MS_PER_MINUTE)
    return ms / MS_PER_MINUTE if rest else minutes


class TimeoutConfig(msgspec.Struct, frozen=True):
    """The timeout configuration of a session. Durations are in milliseconds."""

    timeout_ms: int
    auto_renew: bool
    max_duration_ms: int
    warning_ms: int

    def expires_at(self, created_at: int, last_renewal: int) -> int:
        """Return the deadline (epoch ms): the idle timeout, up to the maximum duration."""
        return min(last_renewal + self.timeout_ms, created_at + self.max_duration_ms)

    def check(self, path: str = "") -> None:
        """Raise ValidationFailed if the values contradict each other.

        ``path`` is the prefix of field names in messages, e.g. ``timeoutConfig.``.
        """
        if self.max_duration_ms < self.timeout_ms:
            raise ValidationFailed(
                f"{path}maxDurationMinutes",
                f"must be at least timeoutMinutes ({to_minutes(self.timeout_ms):.10g}),"
                f" and is {to_minutes(self.max_duration_ms):.10g}",
            )
        if self.warning_ms > self.timeout_ms:
            raise ValidationFailed(
                f"{path}warningThresholdMinutes",
                f"must be at most timeoutMinutes ({to_minutes(self.timeout_ms):.10g}),"
                f" and is {to_minutes(self.warning_ms):.10g}",
            )


class TimeoutInfo(msgspec.Struct, frozen=True, rename="camel"):
    """How a session times out, all values filled in."""

    timeout_minutes: float
    auto_renew: bool
    max_duration_minutes: float
    warning_threshold_minutes: float

    @classmethod
    @lru_cache(maxsize=1024)  # sessions differ in much, rarely in this
    def of(cls, config: TimeoutConfig) -> "TimeoutInfo":
        """Convert a configuration to minutes, as responses and events have it."""
        return cls(
            timeout_minutes=to_minutes(config.timeout_ms),
            auto_renew=config.auto_renew,
            max_duration_minutes=to_minutes(config.max_duration_ms),
            warning_threshold_minutes=to_minutes(config.warning_ms),
        )


class TimeoutChange(msgspec.Struct, frozen=True):
    """A change of a timeout configuration, in milliseconds. None leaves a value as it is."""

    timeout_ms: int | None = None
    auto_renew: bool | None = None
    max_duration_ms: int | None = None
    warning_ms: int | None = None

    def applied_to(self, config: TimeoutConfig) -> TimeoutConfig:
        """Return the changed configuration."""
        return TimeoutConfig(
            timeout_ms=config.timeout_ms if self.timeout_ms is None else self.timeout_ms,
            auto_renew=config.auto_renew if self.auto_renew is None else self.auto_renew,
            max_duration_ms=(
                config.max_duration_ms if self.max_duration_ms is None else self.max_duration_ms
            ),
            warning_ms=config.warning_ms if self.warning_ms is None else self.warning_ms,
        )


class TimeoutPolicy(msgspec.Struct, frozen=True):
    """The ranges and defaults of the timeout values, in minutes, from the settings."""

    min_timeout: float = 5
    max_timeout: float = 1440
    default_timeout: float = 30
    default_max_duration: float = 720
    default_warning: float = 5

    @property
    def max_max_duration(self) -> float:
        """The longest maximum duration of a session, in minutes."""
        return 2 * self.max_timeout

    def change(
        self,
        timeout: float | None,
        auto_renew: bool | None,
        max_duration: float | None,
        warning: float | None,
        path: str = "",
    ) -> TimeoutChange:
        """Convert values in minutes to a change; raise ValidationFailed if one is out of range.

        ``path`` is the prefix of field names in messages, e.g. ``timeoutConfig.``.
        """
        ranges = (
            ("timeoutMinutes", timeout, self.min_timeout, self.max_timeout),
            ("maxDurationMinutes", max_duration, self.min_timeout, self.max_max_duration),
        )
        for name, value, low, high in ranges:
            if value is not None and not low <= value <= high:
                raise ValidationFailed(
                    f"{path}{name}",
                    f"must be from {low:.10g} to {high:.10g} minutes, and is {value:.10g}",
                )
        if warning is not None and not 0 < warning <= self.max_timeout:
            raise ValidationFailed(
                f"{path}warningThresholdMinutes",
                f"must be above 0 and at most timeoutMinutes, and is {warning:.10g}",
            )
        return TimeoutChange(
            timeout_ms=None if timeout is None else to_ms(timeout),
            auto_renew=auto_renew,
            max_duration_ms=None if max_duration is None else to_ms(max_duration),
            warning_ms=None if warning is None else to_ms(warning),
        )

    def resolve(self, change: TimeoutChange, path: str = "") -> TimeoutConfig:
        """Apply a change to the defaults; raise ValidationFailed on a contradiction.

        Defaults adapt to the timeout: the maximum duration is raised to it, and the warning
        threshold lowered.
        """
        timeout_ms = to_ms(self.default_timeout) if change.timeout_ms is None else change.timeout_ms
        defaults = TimeoutConfig(
            timeout_ms=timeout_ms,
            auto_renew=True,
            max_duration_ms=max(to_ms(self.default_max_duration), timeout_ms),
            warning_ms=min(to_ms(self.default_warning), timeout_ms),
        )
        config = change.applied_to(defaults)
        config.check(path)
        return config
