"""``session-service settings``: prints each setting with its value and its source."""

import os
import sys

from session_service.environment import Reader, Setting
from session_service.output import print_json, print_table
from session_service.settings import Settings


def run(*, as_json: bool) -> int:
    """Print the settings that ``serve`` would have; return 1 if some are not allowed, else 0.

    A secret is ``***``, a URL has neither its login nor its options. Problems and warnings are
    those of a start; they are on standard error, or in the JSON.
    """
    reader = Reader(os.environ)
    warnings = Settings.read(reader).warnings
    if as_json:
        print_json(
            {
                "settings": [_described(each) for each in reader.settings],
                "problems": reader.problems,
                "warnings": warnings,
            }
        )
    else:
        print_table(
            ("SETTING", "VALUE", "SOURCE"),
            [
                (each.name, each.value or _absence(each), f"{each.source} {each.file}".strip())
                for each in reader.settings
            ],
        )
        sys.stdout.flush()
        for line in (*reader.problems, *warnings):
            sys.stderr.write(f"{line}\n")
    return 1 if reader.problems else 0


def _absence(setting: Setting) -> str:
    return "not set" if setting.source == "default" else "not allowed"


def _described(setting: Setting) -> dict[str, str | None]:
    return {
        "name": setting.name,
        "value": setting.value or None,
        "source": setting.source,
        "file": setting.file or None,
    }
