"""Decodes the value of any key into lines for a person.

Ids become text, and times ISO 8601. Secrets of webhooks and hashes of API keys are masked. An entry
that cannot be decoded is shown as Python writes its bytes, after ``unreadable:``.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec

from session_service.domain.errors import RecordUnreadable, SessionExpired
from session_service.domain.events import Event, EventId
from session_service.domain.ids import SHARDS
from session_service.domain.times import LATEST_MS, iso
from session_service.store.api_keys.records import unpack_key
from session_service.store.events.past import Past
from session_service.store.inspection.stored import StoredKey
from session_service.store.keys import KINDS, KeyName
from session_service.store.messages import unpack_message
from session_service.store.records import (
    ID_LENGTH,
    USER_END,
    unpack_event,
    unpack_id,
    unpack_listing_member,
    unpack_session,
)
from session_service.store.webhooks.records import unpack_letter, unpack_webhook

Member = tuple[bytes, float]  # of a sorted set, with its score
Field = tuple[bytes, bytes]  # of a hash, with its value
Lines = Iterator[str]

_RAW_CHARACTERS = 400  # shown of an entry that cannot be decoded
_MASK = "***"
_is_queued = re.compile(r"(\S+) (\d+-[0-9a-f]{2}-)[a-t](\d+)").fullmatch  # webhooks/queue.lua
_secret_in_json = re.compile(rb'("\w*[sS]ecret":)"[^"]*"')


def decode(key: KeyName | None, stored: StoredKey) -> Lines:
    """Yield the lines of the entries of a key; ``key`` is None if its name is not in the schema."""
    kind = None if key is None else KINDS[key.kind]
    for entry in stored.entries:
        if key is None or kind is None or kind.type not in ("any", stored.type):
            yield raw(entry)
            continue
        try:
            yield from list(DECODERS[key.kind](key, entry))
        except (RecordUnreadable, ValueError, LookupError):
            # A damaged webhook, or the response of a request for one, may still have its secret.
            yield "unreadable" if kind.has_secrets else f"unreadable: {raw(entry)}"


def raw(entry: Any) -> str:
    """Return an entry as Python writes it, e.g. ``b'2 17684'``, cut off after 400 characters."""
    text = repr(entry)
    return text if len(text) <= _RAW_CHARACTERS else f"{text[:_RAW_CHARACTERS]}…"


def _session(key: KeyName, record: bytes) -> Lines:
    try:
        session = unpack_session(key.owner, record)
    except SessionExpired as expired:
        yield f"expired        {iso(expired.expires_at)}"
        return
    timeout = session.timeout
    yield f"agent          {session.agent_id}"
    yield f"user           {session.user_id}"
    yield f"created        {iso(session.created_at)}"
    yield f"last activity  {iso(session.last_activity)}"
    yield f"last renewal   {iso(session.last_renewal)}"
    yield f"renewals       {session.renewal_count}"
    yield f"expires        {iso(session.expires_at)}"
    yield f"idle timeout   {_duration(timeout.timeout_ms)}"
    yield f"at most        {_duration(timeout.max_duration_ms)}"
    yield f"warning        {_duration(timeout.warning_ms)} before it expires"
    yield f"auto-renew     {'yes' if timeout.auto_renew else 'no'}"
    yield f"metadata       {session.metadata.decode()}"


def _message(_key: KeyName, element: bytes) -> Lines:
    message = unpack_message(element, "agent", "user")
    more = [] if message.metadata == b"{}" else [message.metadata.decode()]
    more += [message.attachments.decode()] if message.attachments else []
    start = f"{iso(message.created_at)}  {message.author_id:5}  {message.id}"
    yield "  ".join((start, msgspec.json.encode(message.content).decode(), *more))


def _participants(_key: KeyName, value: bytes) -> Lines:
    yield f"agent  {_id(value[:ID_LENGTH])}"
    yield f"user   {_id(value[ID_LENGTH:])}"


def _session_at(_key: KeyName, entry: Member) -> Lines:
    yield f"{_time(entry[1])}  session {_id(entry[0])}"


def _listed(_key: KeyName, entry: Member) -> Lines:
    member = unpack_listing_member(entry[0])
    by = f"agent {member.agent_id}  " if member.agent_id is not None else ""
    yield f"by {by}user {member.user_id}  {iso(member.created_at)}  session {member.session_id}"


def _event(key: KeyName, entry: tuple[bytes, dict[bytes, bytes]]) -> Lines:
    ms, number = map(int, entry[0].split(b"-"))
    yield _event_line(unpack_event(EventId(ms, key.shard, number), entry[1][b"event"]))


def _event_line(event: Event) -> str:
    data = msgspec.json.encode(event.data).decode() if event.data else ""
    about = f"session {event.session_id}  user {event.user_id}  agent {event.agent_id}"
    return f"{iso(event.at)}  {event.id}  {event.type}  {about}  {data}".rstrip()


def _past(_key: KeyName, value: bytes) -> Lines:
    past = Past.parse(value)
    if past is None:
        raise RecordUnreadable
    yield f"epoch             {past.epoch.decode()}"
    yield f"last seen         {_time(past.mark)}"
    yield f"complete since    {_time(past.gone)}"
    if past.doubt.until:
        yield f"doubtful          after {_time(past.doubt.after)}, until {_time(past.doubt.until)}"


def _verified(_key: KeyName, entry: Field) -> Lines:
    name, value = entry[0].decode(), entry[1].decode()
    yield f"{name:9}  {_time(int(value)) if name == 'until' else value}"


def _claim(_key: KeyName, entry: Field) -> Lines:
    name, value = entry[0].decode(), entry[1]
    match name:
        case "seed":
            replies = b64decode(value)[:16].hex()  # the rest makes ids, which nobody is to guess
            yield f"seed     replies are in keys that start with idem:{replies}:"
        case "lease":
            yield f"lease    until {_time(int(value))}"
        case "answer":
            head, _, body = value.partition(b"\n")
            status, _ = msgspec.json.decode(head)
            yield f"answer   {status} {_masked(body)}"
        case _:
            yield f"{name:8} {value.decode()}"


def _outcome(_key: KeyName, value: bytes) -> Lines:
    number, _, reply = value.decode().partition(" ")
    yield f"tail   {int(number) or 'none'}"
    yield f"reply  {reply}"


def _tail(_key: KeyName, entry: Field) -> Lines:
    number, tail = entry
    agent, user = _id(tail[:ID_LENGTH]), _id(tail[ID_LENGTH:USER_END])
    yield f"{int(number)}  agent {agent}  user {user}  {tail[USER_END:].decode().rstrip()}"


def _number(_key: KeyName, value: bytes) -> Lines:
    yield f"{int(value):,}"


def _bucket(_key: KeyName, value: bytes) -> Lines:
    yield f"full again  {_time(int(value) // 1000)}"


def _field(_key: KeyName, entry: Field) -> Lines:
    yield f"{entry[0].decode()}  {entry[1].decode()}"


def _webhook(_key: KeyName, entry: Field) -> Lines:
    name, value = entry[0].decode(), entry[1]
    if name in ("version", "settings"):
        yield f"{name}  {value.decode()}"
        return
    webhook = unpack_webhook(name, value)
    wanted = webhook.target.filter
    selected = {n: getattr(wanted, n) for n in wanted.__struct_fields__ if getattr(wanted, n)}
    yield f"{name}  {'enabled' if webhook.is_enabled else 'disabled'}  {webhook.target.url}"
    yield f"  created   {_time(webhook.created_at)}{', by the settings' * webhook.is_from_settings}"
    yield f"  secret    {_MASK}"
    if webhook.overlap_until is not None:
        yield f"  previous  {_MASK} until {_time(webhook.overlap_until)}"
    yield f"  events    {msgspec.json.encode(selected).decode() if selected else 'all'}"


def _api_key(_key: KeyName, entry: Field) -> Lines:
    name, value = entry[0].decode(), entry[1]
    if name == "version":
        yield f"{name}  {value.decode()}"
        return
    key = unpack_key(name, value)
    yield f"{name}  {key.name}"
    yield f"  created   {_time(key.created_at)}"
    if key.expires_at is not None:
        yield f"  expires   {_time(key.expires_at)}"
    if key.revoked_at is not None:
        yield f"  revoked   {_time(key.revoked_at)}"
    yield f"  hash      {_MASK}"
    if key.overlap_until is not None:
        yield f"  previous  {_MASK} until {_time(key.overlap_until)}"
    yield f"  scopes    {', '.join(sorted(key.permissions))}"
    yield f"  agents    {', '.join(sorted(key.agents)) if key.agents else 'all'}"


def _queued(_key: KeyName, entry: Member) -> Lines:
    found = _is_queued(entry[0].decode())
    if found is None:
        raise RecordUnreadable
    yield f"session {found[1]}  event {found[2]}{found[3]}"


def _body(_key: KeyName, entry: Field) -> Lines:
    queued_at = entry[1].split(b" ", 2)[1]
    letter = unpack_letter(entry[0], queued_at, entry[1])
    if letter.event is None:
        raise RecordUnreadable
    yield _event_line(letter.event)
    failed = f"{letter.failures} failed, the last with {letter.last_failure}"
    attempts = failed if letter.failures else "none failed"
    yield f"  queued {_time(letter.dead_since)}; of the attempts {attempts}"


def _lane(_key: KeyName, entry: Member) -> Lines:
    yield f"{_time(entry[1])}  session {entry[0].decode()}"


def _dead(_key: KeyName, entry: Member) -> Lines:
    yield f"{_time(entry[1])}  event {entry[0].decode()}"


def _progress(_key: KeyName, entry: Field) -> Lines:
    name, value = entry[0].decode(), entry[1].decode()
    if name in SHARDS:
        ms, number = map(int, value.split("-"))
        yield f"shard {name}   event {EventId(ms, name, number)}"
    else:
        yield f"{name:9}  {_time(int(value)) if name == 'clock' else value}"


def _raw(_key: KeyName, entry: object) -> Lines:
    yield raw(entry)


def _masked(body: bytes) -> str:
    """Return a JSON body with the values of its secrets masked, e.g. ``{"secret":"***"}``."""
    return _secret_in_json.sub(rb'\1"%s"' % _MASK.encode(), body).decode()


def _id(packed: bytes) -> str:
    if len(packed) != ID_LENGTH:
        raise RecordUnreadable
    return unpack_id(packed)


def _time(ms: float) -> str:
    """Format epoch ms, e.g. the score of a deadline; or the number if it is no time."""
    return iso(int(ms)) if 0 <= ms <= LATEST_MS else f"{ms:g} (no time)"


def _duration(ms: int) -> str:
    """Format a duration, e.g. ``0:30:00`` for half an hour."""
    return str(timedelta(milliseconds=ms))


# By the names of kinds in keys.py, which describes them.
DECODERS: dict[str, Callable[[KeyName, Any], Lines]] = {
    "session": _session,
    "messages": _message,
    "retained": _message,
    "participants": _participants,
    "warn": _session_at,
    "expire": _session_at,
    "forget": _session_at,
    "unreadable": _session_at,
    "listing": _listed,
    "events": _event,
    "trimmed": _past,
    "meta": _field,
    "verified": _verified,
    "claim": _claim,
    "outcome": _outcome,
    "tails": _tail,
    "used": _number,
    "user_bucket": _bucket,
    "key_bucket": _bucket,
    "probe": _raw,
    "webhooks": _webhook,
    "api_keys": _api_key,
    "queue": _queued,
    "bodies": _body,
    "due": _lane,
    "leased": _lane,
    "dead": _dead,
    "state": _progress,
}
