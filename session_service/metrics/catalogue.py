"""All metrics of the service, with their labels and the buckets of histograms.

Names of HTTP and of the store follow OpenTelemetry's semantic conventions, as Prometheus writes
them; all others begin with ``session_service_``. Units are seconds, and no label has an id.
"""

from typing import NamedTuple

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STORE_BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5),
)
_LATENESS_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_DELIVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

OTHER = "_OTHER"  # the value of a label that is not known, as OpenTelemetry names it


class Family(NamedTuple):
    """A metric: its name, and the names of its labels.

    A label has known values only. If there is one label, ``values`` has them; otherwise the part of
    the service that counts names them.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    kind: str = "counter"  # or gauge, or histogram
    bounds: tuple[float, ...] = ()  # the upper bounds of the buckets, without the infinite one


def _gauge(
    name: str, text: str, labels: tuple[str, ...] = (), values: tuple[str, ...] = ()
) -> Family:
    return Family(name, text, labels, values, "gauge")


def _histogram(
    name: str,
    text: str,
    bounds: tuple[float, ...],
    labels: tuple[str, ...] = (),
    values: tuple[str, ...] = (),
) -> Family:
    return Family(name, text, labels, values, "histogram", bounds)


REQUESTS = _histogram(
    "http_server_request_duration_seconds",
    "Duration of requests, with the arrival of their bodies, until the response starts.",
    _REQUEST_BUCKETS,
    ("http_request_method", "http_route", "http_response_status_code"),
)
ACTIVE_REQUESTS = _gauge(
    "http_server_active_requests", "Requests in flight; streams and sockets count until they start."
)
STORE_CALLS = _histogram(
    "db_client_operation_duration_seconds",
    "Duration of calls to the store, by the name of the script.",
    _STORE_BUCKETS,
    ("db_operation_name",),
)
STORE_BATCHES = _histogram(
    "session_service_store_batch_size",
    "Calls written to the store at once.",
    _BATCH_BUCKETS,
)
TRANSITIONS = Family(
    "session_service_transitions_total",
    "Sessions that were created, renewed on request, warned of (expiring), expired or ended, by the"
    " node that did it.",
    ("type",),
    ("created", "renewed", "expiring", "expired", "ended"),
)
SWEEP_LATENESS = _histogram(
    "session_service_sweep_lateness_seconds",
    "Time from a deadline, a warning or an expiry, until the sweep acted on it.",
    _LATENESS_BUCKETS,
)
EVENT_DELIVERY = _histogram(
    "session_service_event_delivery_seconds",
    "Time from an event until it was written to a stream or a socket, or accepted by a webhook at"
    " the first attempt. Without events from before the stream began.",
    _DELIVERY_BUCKETS,
    ("channel",),
    ("sse", "socketio", "webhook"),
)
WEBHOOK_DELIVERIES = Family(
    "session_service_webhook_deliveries_total",
    "Deliveries to webhooks: delivered, failed (tried again later), or dead (given up).",
    ("outcome",),
    ("delivered", "failed", "dead"),
)
LIMITED = Family(
    "session_service_limited_total",
    "Requests refused by a limit: of a user, an API key, an address, creations by pages of an"
    " address, the live sessions of a user, or tests of webhooks.",
    ("by",),
    ("user", "key", "address", "creations", "sessions", "webhook_tests"),
)
REFUSED = Family(
    "session_service_refused_total",
    "Requests and connections refused: too many requests in flight, too many connections, a client"
    " that does not read, the store unavailable, a host or an origin that is not allowed, the"
    " metrics for another machine, bytes that are not valid HTTP, or a head that comes too late.",
    ("reason",),
    (
        *("overload", "connections", "unread", "store", "host", "origin", "metrics"),
        *("malformed", "late"),
    ),
)
BUILD_INFO = _gauge("session_service_build_info", "1, with the version as a label.", ("version",))
SKIPPED = _gauge(
    "session_service_skipped_records", "Shards, webhooks and keys that this process cannot process."
)
STORE_UP = _gauge("session_service_store_up", "Whether the store answers: 1 or 0.")
STORE_EVICTS = _gauge("session_service_store_evicts", "Whether the store may evict keys: 1 or 0.")
STORE_DURABLE = _gauge("session_service_store_durable", "Whether the store writes to disk: 1 or 0.")
# Of the whole store. Each node reports the same, so a query takes the maximum, not the sum.
SESSIONS = _gauge(
    "session_service_sessions",
    "Sessions in the store. Those that expire soon are active, too.",
    ("state",),
    ("active", "expiring_soon", "expired", "invalid"),
)
SWEEP_OVERDUE = _gauge(
    "session_service_sweep_overdue_seconds",
    "How long the earliest deadline that is due has waited for the sweep; 0 if none is due.",
)
OUTBOX_EVENTS = _gauge("session_service_outbox_events", "Events in the outbox.")
OUTBOX_RETAINED = _gauge(
    "session_service_outbox_retained_seconds",
    "How far back the outbox has all events; less than the retention if it is too short.",
)
OUTBOX_RETENTION = _gauge(
    "session_service_outbox_retention_seconds", "SESSION_EVENTS_RETENTION_MINUTES, in seconds."
)
WEBHOOK_QUEUED = _gauge(
    "session_service_webhook_queued", "Events that wait in the queues of webhooks."
)
WEBHOOK_DEAD = _gauge("session_service_webhook_dead", "Dead letters of all webhooks.")

CATALOGUE: tuple[Family, ...] = (
    REQUESTS,
    ACTIVE_REQUESTS,
    STORE_CALLS,
    STORE_BATCHES,
    TRANSITIONS,
    SWEEP_LATENESS,
    EVENT_DELIVERY,
    WEBHOOK_DELIVERIES,
    LIMITED,
    REFUSED,
    BUILD_INFO,
    SKIPPED,
    STORE_UP,
    STORE_EVICTS,
    STORE_DURABLE,
    SESSIONS,
    SWEEP_OVERDUE,
    OUTBOX_EVENTS,
    OUTBOX_RETAINED,
    OUTBOX_RETENTION,
    WEBHOOK_QUEUED,
    WEBHOOK_DEAD,
)
