"""The commands `webhooks …`, `trigger` and `listen` against a service."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_service.background.webhook_client import WebhookClient
from session_service.client import SessionService
from session_service.composition import Store
from session_service.console import list_dead_letters, listen
from session_service.domain.addresses import read_networks
from session_service.domain.event_types import EVENT_TYPES
from session_service.domain.webhooks import Target, WebhookPolicy
from session_service.store.webhooks.registry import Webhooks
from session_service.web.http.state import AppState
from session_service.web.http.webhook_tests import WebhookTests
from tests.support.access import AGENT, ANN, BOB
from tests.support.api import Client
from tests.support.console import Console
from tests.support.processes import environment
from tests.support.service import app_state
from tests.support.waiting import wait_until
from tests.support.webhooks import SECRET, Receiver

pytestmark = pytest.mark.parametrize("store_url", ["memory://"])


@pytest.fixture
def webhook_policy() -> WebhookPolicy:
    return WebhookPolicy(retry_ms=0, allowed_networks=read_networks("127.0.0.1"))


@pytest.fixture
async def service(store: Store) -> AsyncIterator[AppState]:
    async with WebhookClient(store.webhooks.policy) as sender:
        yield app_state(store, webhook_tests=WebhookTests(sender.post))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def hook(webhooks: Webhooks, receiver: Receiver) -> str:
    return (await webhooks.add(Target(receiver.url, SECRET))).id


@pytest.fixture
async def dead(caller: SessionService, hook: str, webhooks: Webhooks, store: Store) -> list[str]:
    """The ids of three events whose delivery to the webhook was given up."""
    await webhooks.list_all()
    for _ in range(3):
        await caller.sessions.create(ANN, AGENT)
    batches = await store.consumer.next(0)
    await webhooks.queues.enqueue(hook, [entry for batch in batches for entry in batch.entries])
    for _ in range(3):  # the deliveries of a session come one after the other
        for delivery in (await webhooks.queues.claim(hook, 10)).deliveries:
            await webhooks.queues.record_result(hook, delivery, "HTTP_503")
    return [each.id async for each in caller.webhooks.dead_letters(hook)]


async def test_webhooks_are_listed(
    console: Console, caller: SessionService, hook: str, dead: list[str], receiver: Receiver
) -> None:
    """`webhooks list` has each webhook with its types and counts, and never its secret."""
    other = await caller.webhooks.create("https://hooks.example/", types=["ended", "expiring"])
    listed = await console("webhooks", "list")
    assert [line.split() for line in listed.out.splitlines()[1:]] == [
        [hook, receiver.url, "all", "0", "3", "0", "active"],
        [other.webhook_id, "https://hooks.example/", "expiring,ended", "0", "0", "0", "active"],
    ]
    documents = (await console("webhooks", "list", "--json")).lines
    assert [(each["webhookId"], each["dead"]) for each in documents] == [
        (hook, len(dead)),
        (other.webhook_id, 0),
    ]
    assert "secret" not in documents[0]


async def test_dead_letters_are_listed_to_the_last(
    console: Console, hook: str, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`webhooks dead` goes through all pages, and has the failure in words."""
    monkeypatch.setattr(list_dead_letters, "_PAGE", 2)
    listed = await console("webhooks", "dead", hook)
    rows = listed.out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [[each, "created"] for each in dead]
    assert all(row.endswith("503 Service Unavailable") for row in rows)
    documents = (await console("webhooks", "dead", hook, "--json")).lines
    assert [each["id"] for each in documents] == dead
    unknown = await console("webhooks", "dead", ANN)
    assert (unknown.code, unknown.err.partition(":")[0]) == (1, "WEBHOOK_NOT_FOUND")


async def test_dead_letters_are_replayed(
    console: Console, caller: SessionService, hook: str, dead: list[str]
) -> None:
    """Some are replayed at once; all only after an answer, or with --yes."""
    some = await console("webhooks", "replay", hook, "--id", dead[1], "--id", "1-3f-0")
    assert (some.code, some.out) == (1, "1 event queued for delivery\n")
    assert some.err == "1 event not found among the dead letters\n"
    refused = await console("webhooks", "replay", hook)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("2 events will be delivered again\n")
    assert (await caller.webhooks.get(hook)).dead == 2
    done = await console("webhooks", "replay", hook, "--yes", "--json")
    assert (done.code, json.loads(done.out)) == (0, {"replayed": 2})
    assert (await caller.webhooks.get(hook)).dead == 0
    none = await console("webhooks", "replay", hook)
    assert (none.code, none.out) == (0, "0 events queued for delivery\n")


async def test_a_sample_is_triggered(console: Console, hook: str, receiver: Receiver) -> None:
    """`trigger` prints the outcome of each sample, and exits with 1 if the endpoint failed."""
    done = await console("trigger", "all", "--webhook", hook)
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        [name, "204"] for name in EVENT_TYPES
    ]
    (events,) = receiver.received.values()
    assert (done.code, [each["type"] for each in events]) == (
        0,
        [f"session.{name}" for name in EVENT_TYPES],
    )
    receiver.status = 503
    failed = await console("trigger", "session.ended", "--webhook", hook)
    assert (failed.code, failed.err) == (1, "")
    assert failed.out.startswith("ended     failed: 503 Service Unavailable, ")
    (document,) = (await console("trigger", "ended", "--webhook", hook, "--json")).lines
    assert (document["delivered"], document["event"]["test"]) == (False, True)
    wrong = await console("trigger", "born", "--webhook", hook)
    assert (wrong.code, wrong.out) == (2, "")
    assert "all, created, message" in wrong.err


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.mark.usefixtures("begun")
async def test_events_reach_a_local_endpoint(
    caller: SessionService,
    service: AppState,
    receiver: Receiver,
    secret_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`listen` posts the selected events in order, goes on after failures, and counts at Ctrl-C."""
    run = listen.run(
        caller,
        forward_to=receiver.url,
        types=["created", "ended"],
        user=ANN,
        agent=None,
        secret_file=str(secret_file),
        as_json=False,
    )
    task = asyncio.create_task(run)
    await wait_until(lambda: service.feed.subscribers == 1)
    printed: list[str] = []

    async def outcome() -> str:
        """Return the next line, without its time, type, session and duration."""

        def is_printed() -> bool:
            printed.extend(capsys.readouterr().out.splitlines())
            return bool(printed)

        await wait_until(is_printed)
        told: str = printed.pop(0).split("  ")[-1]
        return told.partition(" in ")[0].rpartition(",")[0] or told.partition(" in ")[0]

    first = (await caller.sessions.create(ANN, AGENT)).session_id
    assert await outcome() == "204"
    await caller.messages.send(first, "Hello")
    await caller.sessions.create(BOB, AGENT)
    receiver.status = 500
    await caller.sessions.end(first)
    assert await outcome() == "failed: 500 Internal Server Error"
    await receiver.stop()
    await caller.sessions.create(ANN, AGENT)
    assert await outcome() == "failed: no connection to the endpoint"
    receiver.status = 204
    await receiver.start()
    last = (await caller.sessions.create(ANN, AGENT)).session_id
    assert await outcome() == "204"
    capsys.readouterr()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert capsys.readouterr().err == "2 forwarded, 2 failed\n"
    assert {session: receiver.types(session) for session in receiver.received} == {
        first: ["created"],
        last: ["created"],
    }


@pytest.mark.usefixtures("begun")
async def test_a_forwarded_event_is_as_a_delivery(
    caller: SessionService, service: AppState, client: Client, receiver: Receiver, tmp_path: Path
) -> None:
    """The program signs by a new secret, which it prints; Ctrl-C ends it with 130 and a count."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "session_service", "listen", "--json"),
        *("--forward-to", receiver.url),
        env=environment(tmp_path, SESSION_SERVICE_URL=f"http://127.0.0.1:{client.port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    try:
        told = await asyncio.wait_for(process.stderr.readline(), 10)
        receiver.secret = told.decode().split()[-1]
        await wait_until(lambda: service.feed.subscribers == 1)
        session_id = (await caller.sessions.create(ANN, AGENT)).session_id
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode().splitlines()[-1]) == (130, "1 forwarded, 0 failed")
    (event,) = receiver.received[session_id]
    assert (line["delivered"], line["status"], line["event"]) == (True, 204, event)
    (headers,) = receiver.headers
    assert headers["Content-Type"] == "application/cloudevents+json"


async def test_a_listener_that_cannot_be_used_is_refused(
    console: Console, secret_file: Path
) -> None:
    """A URL, a secret or a file that cannot be used is wrong usage; the secret is not repeated."""
    url = "http://localhost:8000/hook"
    (bad := secret_file.with_name("bad")).write_text("hush")
    for options, told in (
        (["--forward-to", "localhost:8000"], "--forward-to: url must be an http:// or https://"),
        (["--forward-to", url, "--secret-file", str(bad)], f"{bad}: the secret must be whsec_"),
        (["--forward-to", url, "--secret-file", f"{bad}.none"], "[Errno 2]"),
        ([], "Usage: session-service listen"),
    ):
        refused = await console("listen", *options)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.startswith(told)
        assert "hush" not in refused.err
    unknown = await console("listen", "--forward-to", url, "--type", "born")
    assert (unknown.code, unknown.err.splitlines()[-1].partition(":")[0]) == (1, "VALIDATION_ERROR")
