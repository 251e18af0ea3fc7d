"""Backup and restore with the commands of docs/backup.md."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM

from tests.support.api import SESSIONS, create
from tests.support.processes import ROOT, Start, environment
from tests.support.tools import need


def commands_of(chapter: str) -> str:
    """Return the first shell commands of a chapter."""
    text = (ROOT / "docs" / "backup.md").read_text()
    found = re.search(rf"^## {chapter}\n.*?^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def shell(folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands in a folder, with the service's program on the PATH."""
    program = folder / "bin" / "session-service"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m session_service "$@"\n')
    program.chmod(0o755)
    variables = environment(folder, PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return subprocess.run(
        ["/bin/sh", "-ec", commands],
        cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_a_backup_of_a_running_service_can_be_restored(start: Start, tmp_path: Path) -> None:
    """A restore has everything acknowledged before the backup, and nothing later."""
    need("cp")
    service = start(SESSION_DATA_DIR=str(tmp_path / "data"))
    async with service.client() as client:
        before = [(await create(client))["sessionId"] for _ in range(50)]

        async def keep_writing() -> None:
            while True:
                await create(client)

        writers = [asyncio.create_task(keep_writing()) for _ in range(4)]
        done = await asyncio.to_thread(shell, tmp_path, commands_of("Backup"))
        assert (done.returncode, done.stderr) == (0, "")
        for writer in writers:
            writer.cancel()
        await asyncio.wait(writers)
        late = (await create(client))["sessionId"]
        async with client.delete(f"{SESSIONS}/{before[0]}") as response:
            assert response.status == 200
    service.signal(SIGTERM)
    assert service.wait() == 0

    *files, serving = commands_of("Restore").strip().splitlines()
    (backup,) = (tmp_path / "backups").iterdir()
    done = shell(tmp_path, "\n".join([f"backup={backup}", *files]))
    assert (done.returncode, done.stderr) == (0, "")
    assert serving == "SESSION_WEBHOOKS_PAUSED=true session-service serve"
    restored = start(SESSION_DATA_DIR=str(tmp_path / "data"), SESSION_WEBHOOKS_PAUSED="true")
    async with restored.client() as client:
        for session_id, status in [*((each, 200) for each in before), (late, 404)]:
            async with client.get(f"{SESSIONS}/{session_id}") as response:
                assert response.status == status
