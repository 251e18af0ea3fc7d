"""Limits of requests, pages, responses, connections and background work, each with its reason.

If operators can change a limit by a setting, the default is here. Sizes are in bytes of UTF-8
unless the name has another unit; times are in seconds.
"""

KIB, MIB = 1024, 1024 * 1024

# Requests
BODY_BYTES = 256 * KIB  # an agent's reply of 128 KiB in which every second byte is an escape
TARGET_BYTES = 8 * KIB  # path and query; proxies allow 8 KiB as well
HEADER_FIELDS = 128
HEADERS_BYTES = 32 * KIB  # all header fields together; browsers send up to 8 KiB of cookies
JSON_DEPTH = 64  # levels of nesting, the same on every Python version
METADATA_BYTES = 10 * KIB  # contract, "Create"
CONTENT_CHARACTERS = 4000  # of a user's message, in Unicode code points; contract, "Messages"
REPLY_BYTES = 128 * KIB  # of an agent's message; the default of SESSION_REPLY_MAX_BYTES
ATTACHMENTS = 10  # of a message
ATTACHMENT_BYTES = 10 * KIB
ATTACHMENTS_BYTES = 64 * KIB  # together

# Sessions
SESSIONS_PER_USER = 1000  # live; a person with 20 tabs has 40 in two days, the longest duration
KEYS_PER_SESSION = 20_000  # Idempotency-Keys in a day: all messages, and a heartbeat every 9 s
MESSAGES_PER_SESSION = 10_000  # one every 4 s for 12 hours, the default maximum duration

# Responses
PAGE_BYTES = MIB  # a page ends here or at its limit, and has at least one entry
HISTORY_LIMIT = 100  # messages in a page
LIST_LIMIT = 1000  # sessions in a page

# Streams
# Until clients reconnect, a random time between the two, so that they do not all at once.
STREAM_RETRY_SECONDS = (1.0, 3.0)
STREAM_OVERLOADED_SECONDS = (5.0, 15.0)  # if the node is overloaded

EVENTS_PER_TURN = 200  # decoded and filtered before other tasks run: about 1 ms
CATCH_UP_SLOTS = 4  # streams that catch up at a time: the store has other work
CATCH_UP_SLOTS_OF_CALLER = 2  # of these for one address, so that it does not hold up the others

# Positions in the outbox
MARK_SECONDS = 30  # between marks that a node has seen the data set: 256 small writes
# No position is later than the mark by more: it is written after 30 s, trimming runs every 5 s.
SEEN_SECONDS = 40
CLOCK_RATE_ERROR = 0.1  # by which a clock may run slower while it is slewed: 8 % with chrony
CLOCK_RESOLUTION_MS = 2  # of a clock that is read in whole milliseconds, and of rounding

# Background work
AWAY_SECONDS = 0.5  # between attempts to reach a store that is unavailable; requests wait for 2 s
QUARANTINE_FIRST_SECONDS = 1.0  # before the first retry of a subject; doubled for each further one
QUARANTINE_LONGEST_SECONDS = 60.0  # so a repaired shard or webhook continues within a minute
QUARANTINE_FORGOTTEN_SECONDS = 300.0  # a failure without a retry for so long does not count
QUARANTINE_LOG_LINES = 40  # per minute: there are 256 shards and 100 webhooks
RETRY_AFTER_SECONDS = 3600.0  # the longest pause that an endpoint can ask for
PARKED_MS = 30 * 24 * 3_600_000  # queued and parked deliveries are kept for so long after a use

# Tests of webhooks, of a process: for people, and for a script that tries each type
WEBHOOK_TESTS = 4  # at a time, each for as long as the endpoint may take to reply
WEBHOOK_TESTS_PER_WINDOW, WEBHOOK_TESTS_SECONDS = 60, 60

# Logs
SLOW_REQUEST_MS = 500  # the default of the setting; with an idle store, a request takes 1 to 5

# Traces
TRACE_FLUSH_SECONDS = 2.0  # at the stop, for the collector to take the spans that are left

# Monitoring of the store
STORE_READING_SECONDS = 2.0  # between readings: health is degraded within 5 s of an eviction
STORE_EVICTED_SECONDS = 600.0  # for which an eviction counts: longer than an alert takes to fire
STORE_REFUSED_SECONDS = 60.0  # for which a refused write counts: several scrape intervals
STORE_LOG_SECONDS = 60.0  # between log lines about a condition that persists
STORE_CLOCK_STEP_SECONDS = 1.0  # a smaller step may be the time that the reading took
STORE_FULL_SHARE = 0.8  # of maxmemory, from which the log warns

# JWTs, and the key set of their issuer
JWT_BYTES = 8 * KIB  # of a token; with a few dozen claims it has 2 KiB
JWT_LEEWAY_SECONDS = 30  # by which the issuer's clock may differ; access, "Credentials"
JWTS_REMEMBERED = 10_000  # verified tokens; some 15 MB, at most 80 MB
JWT_REMEMBERED_SECONDS = 60  # so a key that the issuer withdraws serves for a minute longer
JWT_SECRET_BYTES = 32  # at least, as long as the hash of HS256
RSA_BITS = (2048, 8192)  # a signature by a longer key takes several milliseconds to verify
KEY_SET_BYTES = MIB
KEY_SET_KEYS = 100  # that are used; issuers publish two to ten
KEY_SET_SECONDS = 5.0  # for a fetch in all
KEY_SET_REFRESH_SECONDS = 600.0
KEY_SET_RETRY_SECONDS = 10.0  # at most, after a fetch that failed
KEY_SET_PAUSE_SECONDS = 1.0  # between fetches for requests while there is no key set
KEY_SET_ASKED = 2  # fetches for an unknown key id, in
KEY_SET_ASKED_SECONDS = 60.0
KEY_SET_LAST_SECONDS = 24 * 3600.0  # for which the last key set serves if fetches fail

# Browsers
PREFLIGHT_SECONDS = 600  # until a browser asks again, and sees a changed setting
HEADER_VALUES_REMEMBERED = 256  # hosts and origins with the result of their check
CREATE_LIMIT = 60  # sessions created by pages, per address and window; a person needs one at a time
CREATE_SECONDS = 60.0  # the window
CREATE_ADDRESSES = 10_000  # counted at a time, some 3 MB
FORWARDED_CHARACTERS = 200  # of X-Forwarded-For: a client and four proxies, in IPv6
LIMITED_ADDRESSES = 50_000  # with a bucket of RATE_LIMIT_ADDRESS at a time, some 8 MB
LOGGED_REFUSALS = 20  # different hosts and origins that were refused, in the log

# Time
TIMEOUT_MINUTES = 5_256_000  # ten years: no conversation is idle for longer. A maximum duration is
# at most twice that, so all times stay in this century, far below 2^53 ms and the year 9999

# Connections
CONNECTIONS = 10_000  # of a process; the default of SESSION_MAX_CONNECTIONS
METRICS_CONNECTIONS = 64  # of METRICS_PORT, of a process
RESERVED_CONNECTIONS = 16  # above that, for probes: a few orchestrators, each with a few probes
# Of the connections, for streams and sockets together; the other connections are for requests.
HELD_SHARE = 0.8
GRACE_SECONDS = 0.5  # for which an idle connection stays: its next request may be on its way
FIRST_REQUEST_SECONDS = 10.0  # from connecting to the end of the first request's head
HEAD_SECONDS = 10.0  # from the first byte of a request to the end of its head
IDLE_SECONDS = 75.0  # between two requests; longer than proxies keep an idle connection
IN_FLIGHT = 2000  # requests of a process; the default of SESSION_MAX_IN_FLIGHT

# Bodies that have not arrived, of a process
BODY_SECONDS = 10.0  # for a whole body
BODY_RATE = KIB  # bytes per second after the grace: a client that stops costs 2 s, not 10
BODY_GRACE_SECONDS = 2.0  # in which nothing must arrive: a lost packet is sent again by then
BODY_COST_BYTES = 16 * KIB  # memory of a request that waits for its body, without the body
BODIES_BYTES = 32 * MIB  # 2,000 bodies of which nothing has arrived, or 120 that lack one byte

# Responses that have not been read, of a process
UNREAD_SECONDS = 10.0  # for a client that reads nothing
UNREAD_BYTES = 32 * MIB  # 32 full pages, or 1,600 streams that are not read
# The kernel's buffer for a client. Linux takes twice that, and up to 4 MiB without this limit.
# That a client reads is noticed only when a third of the buffer is free.
KERNEL_BYTES = 128 * KIB  # a page needs 1 s at a round trip of 100 ms, and a client 9 KB/s
STREAM_KERNEL_BYTES = 64 * KIB

# Sockets
SOCKET_PACKET_BYTES = 128 * KIB  # a message of 4,000 characters, all escapes (48 KB), with 74 KiB
SOCKET_WATCHED_BYTES = 16 * KIB  # of a message; from then on it must arrive as fast as a body
ROOMS = 100  # of a socket
SOCKET_UNREAD_PACKETS = 1000  # until the socket is closed
SOCKET_UNREAD_BYTES = MIB  # the same; a packet is in memory once for all sockets of a room
SOCKET_SPARED_BYTES = 64 * KIB  # the same, when all sockets together have UNREAD_BYTES unread
SENDER_CHARACTERS = 200  # of a sender's name, and of a message's source
CLIENT_MESSAGE_ID_CHARACTERS = 128  # of a client's own message id; most are UUIDs
EXPECTED_BROADCASTS = 100  # of a room: messages under way that its members sent
HANDSHAKE_SECONDS = 5.0  # for a client to connect after its handshake; clients do it at once
HANDOVER_SECONDS = 2.0  # for a busy worker to take a connection from another
HANDOVER_BYTES = 176 * KIB  # a request that is handed over: target, headers, and a packet
HANDSHAKES = 10_000  # that wait, some 200 bytes each; the next one replaces the oldest

# Records
UNREADABLE_LOG_LINES = 40  # per minute: after a rollback there may be thousands of sessions

# The embedded store
STORE_LOOK_SECONDS = 2.0  # between two checks of its files: a few system calls
