"""A short run of the floods; ``make chaos`` has the long one."""

import asyncio

import pytest

from chaos.flooders import KINDS
from chaos.floods import MEMORY_MB, onlookers
from tests.support.faults import HAS_PROC

SECONDS = 1.0


@pytest.mark.skipif(not HAS_PROC, reason="missing tool: /proc")
async def test_floods_keep_nobody_from_being_served() -> None:
    """During every flood probes, ``healthcheck`` and other clients succeed.

    The table has fewer connections than some floods open.
    """
    async with onlookers(max_connections=1000) as others:
        await asyncio.sleep(SECONDS / 2)
        memory = others.memory_now()
        for kind in KINDS:
            assert await others.flood(kind, SECONDS), kind
            if kind == "unread":
                assert others.memory - memory < MEMORY_MB
    assert others.problems == []
    assert others.probes > 0
    assert others.checks > 0
    assert others.log_lines < 100
