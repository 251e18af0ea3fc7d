"""``memory://``: a service in the process of a test; and the examples of the guide."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from session_service.client import (
    ConnectionFailed,
    SessionNotFound,
    SessionService,
    TimeoutSettings,
)
from tests.support.access import AGENT, ANN

GUIDE = Path(__file__).parents[2] / "docs/client.md"
EXPIRING = TimeoutSettings(timeout_minutes=0.003, auto_renew=False)


def example(function: str) -> dict[str, Any]:
    """Run the block of the guide that defines a function; return the names that it defines."""
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (text,) = [each for each in blocks if f"async def {function}(" in each]
    names: dict[str, Any] = {}
    exec(compile(text, str(GUIDE), "exec"), names)  # noqa: S102 - it is ours
    return names


async def test_services_in_memory_have_data_of_their_own() -> None:
    """Each is whole, with warnings, expiries and events, and ends with its client."""
    async with SessionService("memory://") as service:
        async with SessionService("memory://") as other, SessionService(service.url) as same:
            session_id = (await service.sessions.create(ANN, AGENT)).session_id
            assert (await same.sessions.get(session_id)).session_id == session_id
            with pytest.raises(SessionNotFound):
                await other.sessions.get(session_id)
            async with asyncio.timeout(10), other.events.follow() as events:
                await other.sessions.create(ANN, AGENT, timeout_config=EXPIRING)
                types = set()
                async for event in events:
                    types.add(event.type)
                    if event.type == "session.expired":
                        break
            assert types >= {"session.created", "session.expired"}
        url = service.url
    async with SessionService(url, max_retries=0) as late:
        with pytest.raises(ConnectionFailed):
            await late.health.live()


async def test_memory_begins_with_its_block() -> None:
    """A call before that says how to begin."""
    service = SessionService("memory://")
    with pytest.raises(RuntimeError, match="async with"):
        await service.health.get()


@pytest.mark.parametrize("name", ["fakeredis", "lupa"])
def test_memory_needs_its_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without it the error names the command that installs it; other services do not need it."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'session-service\[memory\]'"):
        SessionService("memory://")
    SessionService("http://localhost:3000")


async def test_the_test_of_the_guide() -> None:
    """The example for tests passes as it is written."""
    await example("test_the_user_is_warned")["test_the_user_is_warned"]()


async def test_the_first_example_of_the_guide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A back end sends messages, prints the conversation and the events, and ends the session."""
    async with SessionService("memory://") as service:
        monkeypatch.setenv("SESSION_SERVICE_URL", service.url)
        async with asyncio.timeout(10):
            await example("talk")["talk"](ANN, AGENT, ["Hello", "Bye"])
        assert (await service.sessions.list_page()).total == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line != "session.renewed"] == [
        "Hello",
        "Bye",
        "session.message",
        "session.message",
        "session.ended",
    ]


async def test_the_live_session_of_the_guide() -> None:
    """A back end asks an agent and gets its reply."""

    async def reply(agent: SessionService) -> None:
        async for event in agent.events.follow(agent_id=AGENT, last_event_id=begin):
            if event.type == "session.message":
                await agent.messages.send(
                    event.data["sessionId"], "How can I help?", author_id=AGENT
                )
                return

    async with SessionService("memory://") as service:
        async with service.events.follow() as stream:
            begin = stream.position
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(reply(service))
            answer = group.create_task(example("ask")["ask"](service, ANN, AGENT, "Hello"))
        assert answer.result() == "How can I help?"
