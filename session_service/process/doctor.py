"""``session-service doctor``: looks for problems of the settings, this machine and the store."""

import asyncio
import os
import sys
from collections import Counter

from session_service import logs
from session_service.domain.findings import Finding, Level, error
from session_service.environment import Reader
from session_service.output import print_json, print_table
from session_service.process.diagnosis.host import check_host
from session_service.process.diagnosis.settings import check_settings
from session_service.process.diagnosis.store import check_store
from session_service.settings import Settings

_STYLES = {"error": "bold red", "warning": "yellow", "ok": "green"}
_ORDER: tuple[Level, ...] = ("error", "warning", "ok")


def run(*, strict: bool, as_json: bool) -> int:
    """Print all findings, errors first; return 1 if there are errors, else 0.

    With ``strict``, warnings count as well.
    """
    logs.set_up("critical", "auto")  # the findings say the same
    findings = sorted(diagnose(Reader(os.environ)), key=lambda each: _ORDER.index(each.level))
    if as_json:
        print_json({"findings": findings})
    else:
        _print(findings)
    fatal = ("error", "warning") if strict else ("error",)
    return int(any(each.level in fatal for each in findings))


def diagnose(reader: Reader) -> list[Finding]:
    """Return the findings of all checks; with bad settings, these are all."""
    settings = Settings.read(reader)
    if reader.problems:
        remedy = "correct the setting (docs/settings.md); nothing else was checked"
        return [error("settings", problem, remedy) for problem in reader.problems]
    return [
        *check_settings(settings, reader.settings),
        *check_host(settings),
        *asyncio.run(check_store(settings)),
    ]


def _print(findings: list[Finding]) -> None:
    rows: list[tuple[str, str, str]] = []
    for each in findings:
        rows.append((each.level, each.id, each.problem))
        if each.remedy:
            rows.append(("", "", f"→ {each.remedy}"))
    print_table(("LEVEL", "CHECK", "FINDING"), rows, _STYLES)
    counts = Counter(each.level for each in findings)
    numbers = ", ".join(f"{level}: {counts[level]}" for level in _ORDER)
    sys.stdout.write(f"\n{numbers}\n")
