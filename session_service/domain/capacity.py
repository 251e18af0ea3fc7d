"""Estimates the memory of the store, its masters, and the cores for a number of sessions.

The constants are medians of docs/performance.md ("At a million sessions", "Sizing"), on Valkey 9;
Redis 7 takes a quarter more memory.
"""

import math

import msgspec

# Bytes in the store
_SESSION = 533  # without metadata: record, listing, deadline and the tables of keys
_MESSAGE = 40  # besides its content
_FIRST_MESSAGE = 160  # more for the first of a session: the list itself
_TOMBSTONE = 230  # of an expired session
_EVENT = 120
REDIS_FACTOR = 1.25
_FREE_SHARE = 0.5  # of a machine's memory, for rewrites of the file and copies to replicas

# Microseconds of a service process, and of the store
_HEARTBEAT = (30, 10)
_MESSAGE_SENT = (45, 30)
_CREATED_AND_ENDED = (70, 90)
_SWEEP_SHARE = 0.014  # of a core of the store, for each node and million sessions
_SERVICE_LOAD = 0.7  # of a core, at most
_STORE_LOAD = 0.5
MAX_MASTERS = 256  # as many as shards

_RENEWALS = 10  # announced at most, in an idle timeout
_MILLION = 1_000_000


class Mix(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Sessions and their use. Times in seconds, sizes in bytes of UTF-8."""

    sessions: int  # live at a time
    heartbeat: float = 0  # between two heartbeats of a session; 0: there are none
    messages: int = 0  # of a session in its life
    message_bytes: int = 0
    metadata_bytes: int = 100
    lifetime: float = 12 * 3600.0  # from its creation to its end
    ended_share: float = 0  # of sessions that are ended by a request; the others expire
    idle_timeout: float = 1800
    expired_retention: float = 86_400
    history_retention: float = 0
    max_events: int = 500_000
    event_retention: float = 3600
    master_bytes: int = 64 * 2**30  # memory of a master's machine
    nodes: int = 2


class Memory(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Bytes in the store by their purpose."""

    sessions: int
    messages: int
    expired: int
    history: int
    events: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.sessions + self.messages + self.expired + self.history + self.events


class Rates(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Operations a second."""

    heartbeats: float
    messages: float
    creations: float  # and as many ends
    events: float


class Capacity(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The estimate for a mix."""

    memory: Memory
    rates: Rates
    service_cores: float  # that are busy
    store_cores: float
    cores: int  # for the service, at 70 % each
    masters: int
    masters_for_memory: int
    masters_for_time: int


def estimate(mix: Mix) -> Capacity:
    """Estimate the memory, masters and cores that a mix needs."""
    rates = _rates(mix)
    memory = memory_of(
        mix,
        messages=mix.sessions * mix.messages,
        expired=round(rates.creations * (1 - mix.ended_share) * mix.expired_retention),
        kept=round(rates.creations * mix.history_retention),
        events=min(mix.max_events, round(rates.events * mix.event_retention)),
    )
    operations = (
        (rates.heartbeats, _HEARTBEAT),
        (rates.messages, _MESSAGE_SENT),
        (rates.creations, _CREATED_AND_ENDED),
    )
    service = sum(rate * micros for rate, (micros, _) in operations) / _MILLION
    store = sum(rate * micros for rate, (_, micros) in operations) / _MILLION
    store += _SWEEP_SHARE * mix.nodes * mix.sessions / _MILLION
    for_memory = math.ceil(memory.total / (_FREE_SHARE * mix.master_bytes))
    for_time = math.ceil(store / _STORE_LOAD)
    return Capacity(
        memory=memory,
        rates=rates,
        service_cores=service,
        store_cores=store,
        cores=max(1, math.ceil(service / _SERVICE_LOAD)),
        masters=max(1, for_memory, for_time),
        masters_for_memory=max(1, for_memory),
        masters_for_time=max(1, for_time),
    )


def memory_of(mix: Mix, *, messages: int, expired: int, kept: int, events: int) -> Memory:
    """Return the memory of the live sessions with so many messages in all, and of the others.

    ``kept`` sessions are over, and their conversations are kept.
    """
    with_messages = min(mix.sessions, messages)
    conversation = _bytes_of(mix.messages, mix.message_bytes, bool(mix.messages))
    return Memory(
        sessions=mix.sessions * (_SESSION + mix.metadata_bytes),
        messages=_bytes_of(messages, mix.message_bytes, with_messages),
        expired=expired * _TOMBSTONE,
        history=kept * conversation,
        events=events * _EVENT,
    )


def _bytes_of(messages: int, size: int, conversations: int) -> int:
    return messages * (size + _MESSAGE) + conversations * _FIRST_MESSAGE


def _rates(mix: Mix) -> Rates:
    creations = mix.sessions / mix.lifetime
    messages = creations * mix.messages
    heartbeats = mix.sessions / mix.heartbeat if mix.heartbeat else 0.0
    # Messages renew as well. A session announces a tenth of its timeout at most once.
    announced = min(heartbeats + messages, mix.sessions * _RENEWALS / mix.idle_timeout)
    return Rates(
        heartbeats=heartbeats,
        messages=messages,
        creations=creations,
        events=2 * creations + messages + announced,
    )
