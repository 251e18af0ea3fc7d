-- What all scripts start with.
--
-- KEYS  by name, what each holds is told in keys.py; in a script on a whole shard, SESSION and
--       MESSAGES are what stands before a session's id
-- ARGV  1 retention (ms)  2 session id  3... the operation's own
--
-- Times are epoch milliseconds by the store's clock, durations milliseconds.
--
-- The first write of a script that makes something is one that Redis refuses when it is out of memory,
-- the first of one that ends something is not: so the former fail whole, and the latter go on.
-- Each command costs about a microsecond, what it does not counted; so none is here that need not be.

local call, retention, id = redis.call, ARGV[1], ARGV[2]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
