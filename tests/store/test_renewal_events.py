"""Renewals that are events (design, "Frequent renewals do not each emit an event")."""

from itertools import pairwise

import pytest

from session_service.domain.events import Event, EventFilter
from session_service.domain.sessions import Session
from session_service.domain.timeouts import TimeoutConfig
from session_service.store.events.feed import Feed, Subscription
from session_service.store.sessions.repository import SessionRepository
from tests.support.factories import HELLO, HOUR_MS, create_session
from tests.support.waiting import a_moment_later, wait_until

pytestmark = pytest.mark.usefixtures("begun")

SECOND_MS = 1000  # a tenth is 100 ms
BRISK = TimeoutConfig(SECOND_MS, True, HOUR_MS, 1)


async def follow(feed: Feed, session: Session) -> Subscription:
    """Subscribe to the events of a session after its creation."""
    await a_moment_later()
    return await feed.subscribe(EventFilter(session_id=session.id))


async def end_and_read(
    subscription: Subscription, repository: SessionRepository, session: Session
) -> list[tuple[int, int]]:
    """End the session; return the deadline and count of each renewal that was announced."""
    await repository.end(session.id)
    events: list[Event] = []
    while not events or events[-1].type != "ended":
        batch = await subscription.get_batch(10)
        events += [item for item in batch if isinstance(item, Event)]
    return [
        (event.details.expires_at, event.details.renewal_count)  # type: ignore[union-attr]
        for event in events
        if event.type == "renewed"
    ]


@pytest.mark.parametrize("by", ["heartbeat", "message"])
async def test_activity_announces_one_renewal_in_a_tenth_of_the_timeout(
    feed: Feed, repository: SessionRepository, by: str
) -> None:
    """Of the renewals by activity, exactly the first in each tenth is an event; all are counted."""
    session = await create_session(repository, BRISK)
    subscription = await follow(feed, session)
    renewals = [session]

    async def have_three_tenths_passed() -> bool:
        if by == "heartbeat":
            renewals.append(await repository.heartbeat(session.id))
        else:
            renewals.append((await repository.send(session.id, HELLO))[1])
        return tenth(renewals[-1]) >= tenth(session) + 3

    await wait_until(have_three_tenths_passed)
    assert [each.renewal_count for each in renewals] == list(range(len(renewals)))
    expected = [
        (after.expires_at, after.renewal_count)
        for before, after in pairwise(renewals)
        if tenth(after) != tenth(before)
    ]
    assert await end_and_read(subscription, repository, session) == expected
    assert len(expected) < len(renewals) - 1


def tenth(session: Session) -> int:
    return 10 * session.last_renewal // session.timeout.timeout_ms


async def test_a_renewal_on_request_is_always_announced(
    feed: Feed, repository: SessionRepository
) -> None:
    """Each of five renewals on request is an event."""
    session = await create_session(repository)
    subscription = await follow(feed, session)
    renewals = [await repository.renew(session.id) for _ in range(5)]
    assert await end_and_read(subscription, repository, session) == [
        (each.expires_at, each.renewal_count) for each in renewals
    ]


async def test_a_renewal_after_the_warning_is_announced(
    feed: Feed, repository: SessionRepository
) -> None:
    """A session that was warned about and is renewed announces that, whatever the time is."""
    config = TimeoutConfig(HOUR_MS, True, 2 * HOUR_MS, HOUR_MS - 50)
    session = await create_session(repository, config)
    subscription = await follow(feed, session)

    async def is_near_expiration() -> bool:
        return (await repository.get(session.id)).is_near_expiration

    await wait_until(is_near_expiration)
    renewed = await repository.heartbeat(session.id)
    assert await end_and_read(subscription, repository, session) == [
        (renewed.expires_at, renewed.renewal_count)
    ]
