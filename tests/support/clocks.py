"""A server clock that can be set while the server runs, by libfaketime (package ``faketime``)."""

from pathlib import Path

_LIBRARIES = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib/faketime/libfaketimeMT.so.1")


def library() -> Path | None:
    """Return the path of libfaketime, or None if it is not installed."""
    found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern)]
    return found[0] if found else None


class SettableClock:
    """A clock that differs from this machine's by an offset, which servers read from a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "offset"
        self.offset = 0.0  # seconds
        self.set(0)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make a server use this clock."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",  # libfaketime 0.9.9 and older
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: float) -> None:
        """Set the offset: seconds ahead of this machine, or behind it if negative."""
        self.offset = seconds
        self._file.write_text(f"{seconds:+f}")
