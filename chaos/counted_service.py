"""The service, which on SIGUSR2 writes its number of tasks to the file named by TASKS_FILE."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from session_service.cli import main


def _write_count(*_: object) -> None:
    Path(os.environ["TASKS_FILE"]).write_text(str(len(asyncio.all_tasks())))


signal.signal(signal.SIGUSR2, _write_count)
sys.exit(main(["serve"]))
