"""What a request, a page, a response and a connection may cost: every bound, with its reason.

A bound that operators want to change is a setting, whose default stands here. Sizes are bytes of
UTF-8 unless a name says otherwise, times are seconds.
"""

KIB, MIB = 1024, 1024 * 1024

# Requests
BODY_BYTES = 256 * KIB  # an agent's reply of 128 KiB whose every second byte is an escape
TARGET_BYTES = 8 * KIB  # path and query; proxies allow 8 KiB as well
HEADER_FIELDS = 128
HEADERS_BYTES = 32 * KIB  # all header fields together: browsers send up to 8 KiB of cookies
JSON_DEPTH = 64  # levels of nesting, the same on every Python version
METADATA_BYTES = 10 * KIB  # contract, "Create"
CONTENT_CHARACTERS = 4000  # of a user's message, in Unicode code points; contract, "Messages"
REPLY_BYTES = 128 * KIB  # of an agent's message; the default of SESSION_REPLY_MAX_BYTES
ATTACHMENTS = 10  # of a message
ATTACHMENT_BYTES = 10 * KIB
ATTACHMENTS_BYTES = 64 * KIB  # together

# Sessions
SESSIONS_PER_USER = 1000  # live: a person with 20 tabs has 40 in two days, the longest duration
KEYS_PER_SESSION = 20_000  # Idempotency-Keys in a day: all messages, and a heartbeat every 9 s
MESSAGES_PER_SESSION = 10_000  # one every 4 s for the 12 hours that a session lasts by default

# Responses
PAGE_BYTES = MIB  # a page ends here or at its limit, and has at least one entry
HISTORY_LIMIT = 100  # messages of a page
LIST_LIMIT = 1000  # sessions of a page

# Streams
STREAM_RETRY_SECONDS = (1.0, 3.0)  # until clients come back, drawn so that they do not come at once
STREAM_OVERLOADED_SECONDS = (5.0, 15.0)  # the same if too much is under way

EVENTS_A_TURN = 200  # that are decoded and filtered before others have their turn: about 1 ms
REPLAYS = 4  # streams that catch up at a time, for the store has others to serve
REPLAYS_OF_CALLER = 2  # of these of one address, so that nobody holds up the others

# Positions in the outbox
MARK_SECONDS = 30  # between marks that the data set was seen: 256 small writes
SEEN_SECONDS = 40  # after a mark no later position was given out: 30, trimming every 5, and some
CLOCK_RATE_ERROR = 0.1  # by which a clock may run slower while it is slewed: chrony takes 8 %
CLOCK_RESOLUTION_MS = 2  # of a clock that is read in whole milliseconds, and of rounding

# Work in the background
AWAY_SECONDS = 0.5  # until a store that was away is asked again: requests wait for 2 s
QUARANTINE_FIRST_SECONDS = 1.0  # until what failed on its own is tried again, doubled each time
QUARANTINE_LONGEST_SECONDS = 60.0  # so a mended shard or webhook goes on within a minute
QUARANTINE_FORGOTTEN_SECONDS = 300.0  # after which what nobody tries any more does not count
QUARANTINE_LOG_LINES = 40  # a minute: there are 256 shards and 100 webhooks
RETRY_AFTER_SECONDS = 3600.0  # at most, for an endpoint that asks for a pause
PARKED_MS = 30 * 24 * 3_600_000  # deliveries wait or are parked for so long after the last use

# The store, watched
STORE_READING_SECONDS = 2.0  # between readings: health is degraded within 5 s of an eviction
STORE_EVICTED_SECONDS = 600.0  # for which an eviction counts: longer than an alert takes to fire
STORE_REFUSED_SECONDS = 60.0  # for which a refused write counts: several times a scrape interval
STORE_LOG_SECONDS = 60.0  # between lines on something that goes on
STORE_CLOCK_STEP_SECONDS = 1.0  # by less, the time that a reading takes cannot be told from it
STORE_FULL_SHARE = 0.8  # of maxmemory, from which the log warns

# Browsers
PREFLIGHT_SECONDS = 600  # a browser asks again after that; a changed setting is seen by then
HEADER_VALUES_REMEMBERED = 256  # hosts and origins whose check is remembered
CREATE_LIMIT = 60  # sessions that pages create, an address and window; people need one at a time
CREATE_SECONDS = 60.0  # the window
CREATE_ADDRESSES = 10_000  # that are counted at a time, some 3 MB
FORWARDED_CHARACTERS = 200  # of X-Forwarded-For: a client and four proxies, in IPv6
LOGGED_REFUSALS = 20  # different hosts and origins whose refusal is logged

# Time
TIMEOUT_MINUTES = 5_256_000  # ten years: no conversation is idle for longer. A maximum duration is
# twice that at most, so that all times stay in this century, far below 2^53 ms and the year 9999

# Connections
CONNECTIONS = 10_000  # of a process; the default of SESSION_MAX_CONNECTIONS
RESERVED_CONNECTIONS = 16  # above that, for probes: a few orchestrators, each with a few probes
HELD_SHARE = (
    0.8  # of the connections, for streams and sockets together: the others are for requests
)
GRACE_SECONDS = 0.5  # in which an idle connection does not make room: for the request on its way
FIRST_REQUEST_SECONDS = 10.0  # from connecting to the end of the first request's head
HEAD_SECONDS = 10.0  # from the first byte of a request to the end of its head
IDLE_SECONDS = 75.0  # between two requests; longer than proxies keep an idle connection
IN_FLIGHT = 2000  # requests of a process; the default of SESSION_MAX_IN_FLIGHT

# Bodies that have not arrived, of a process
BODY_SECONDS = 10.0  # for a whole body
BODY_RATE = KIB  # bytes a second after the grace: a client that stops costs 2 s, not 10
BODY_GRACE_SECONDS = 2.0  # in which nothing has to arrive: a lost packet is sent again by then
BODY_COST_BYTES = 16 * KIB  # what a request that waits for its body takes beside the body
BODIES_BYTES = 32 * MIB  # 2,000 bodies of which nothing has arrived, or 120 that lack one byte

# Responses that have not been read, of a process
UNREAD_SECONDS = 10.0  # for a client that reads nothing
UNREAD_BYTES = 32 * MIB  # 32 full pages, or 1,600 streams that are not read
# What the kernel may hold for a client: it takes twice that, and by itself up to 4 MiB. A client is
# seen to read only when a third of it is free.
KERNEL_BYTES = 128 * KIB  # a page needs 1 s at a round trip of 100 ms, and a client 9 KB/s
STREAM_KERNEL_BYTES = 64 * KIB

# Sockets
SOCKET_PACKET_BYTES = 128 * KIB  # a message of 4,000 characters, all escapes (48 KB), with 74 KiB
SOCKET_WATCHED_BYTES = 16 * KIB  # a message is watched as a body is once more of it has come
ROOMS = 100  # that a socket may join
SOCKET_UNREAD_PACKETS = 1000  # until the socket is closed
SOCKET_UNREAD_BYTES = MIB  # the same; a packet is in memory once for all sockets of a room
SOCKET_SPARED_BYTES = 64 * KIB  # the same, once all sockets together have UNREAD_BYTES unread
SENDER_CHARACTERS = 200  # of a sender's name, and of a message's source
CLIENT_MESSAGE_ID_CHARACTERS = 128  # a client's own id of a message; most are UUIDs
EXPECTED_BROADCASTS = 100  # of a room: messages under way that its members sent
HANDSHAKE_SECONDS = 5.0  # for a client to connect after its handshake; clients do it at once
HANDOVER_SECONDS = 2.0  # for a busy worker to take a connection from another
HANDOVER_BYTES = 176 * KIB  # a request that is handed over: target, headers, and a packet
HANDSHAKES = 10_000  # that wait, some 200 bytes each; one more forgets the oldest

# Records
UNREADABLE_LOG_LINES = 40  # a minute: after a rollback there may be thousands of sessions

# The embedded store
STORE_LOOK_SECONDS = 2.0  # between two looks at its files: a few system calls
