"""The service, which tells how many tasks it has: on SIGUSR2, into the file named by TASKS_FILE."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from session_service.cli import main


def _tell(*_: object) -> None:
    Path(os.environ["TASKS_FILE"]).write_text(str(len(asyncio.all_tasks())))


signal.signal(signal.SIGUSR2, _tell)
sys.exit(main(["serve"]))
