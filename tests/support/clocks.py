"""A clock that a server believes in, and that a test sets (libfaketime)."""

from pathlib import Path

from tests.support.tools import skip_without

_LIBRARIES = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
_LIBRARY = next(_LIBRARIES, None)


class SettableClock:
    """Gives the environment of a server whose clock is some seconds ahead of the machine's."""

    def __init__(self, folder: Path) -> None:
        if _LIBRARY is None:
            skip_without("libfaketime")
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(_LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: float) -> None:
        """Set it to that many seconds ahead; back if negative."""
        self._file.write_text(f"{ahead:+f}")
