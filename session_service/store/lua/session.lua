-- What the scripts share; stands before each of them.
--
-- KEYS  1 warn  2 expire  3 forget  4 users  5 agents  6 events     of the shard
--       7 session  8 messages                                       of the session, where it is one's
-- ARGV  1 retention (ms)  2 session id  3... the operation's own
--
-- Times are epoch milliseconds by the store's clock, durations milliseconds. What the keys hold is
-- told in keys.py, the form of a session's record in records.py.
--
-- The first write of a script that makes something is one that Redis refuses when it is out of memory,
-- the first of one that ends something is not: so the former fail whole, and the latter go on.
-- Each command costs about a microsecond, what it does not counted; so none is here that need not be.

local DAY = 86400000
local OUTBOX_LENGTH = 1000  -- events a shard keeps, about

local call, retention = redis.call, ARGV[1]

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Works out the deadline; the one place where its rule stands (contract, "Renewal, heartbeat, timeout").
local function settle(session)
  session.limit = session.created + session.duration
  session.expires = math.min(session.renewed + session.timeout, session.limit)
end

-- Returns 'live' or 'expired' and the session in a record, or 'missing', or 'expired' alone where
-- the sweep has been. Numbers are left as they are written, which arithmetic takes too.
local function read(record, now)
  if not record then return 'missing' end
  local created, active, renewed, renewals, timeout, duration, warning, auto, tail =
    string.match(record, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) ([01]) (.*)$')
  if not created then return 'expired' end
  local session = {
    created = created, active = active, renewed = renewed, renewals = renewals,
    timeout = timeout, duration = duration, warning = warning, auto = auto, tail = tail,
    limit = 0, expires = 0,
  }
  settle(session)
  return session.expires > now and 'live' or 'expired', session
end

local function load(now)
  local record = call('GET', KEYS[7])
  local state, session = read(record, now)
  return state, session, record
end

local function save(session)
  local record = session.created .. ' ' .. session.active .. ' ' .. session.renewed .. ' '
    .. session.renewals .. ' ' .. session.timeout .. ' ' .. session.duration .. ' '
    .. session.warning .. ' ' .. session.auto .. ' ' .. session.tail
  call('SET', KEYS[7], record, 'PXAT', session.expires + retention .. '')
  return record
end

-- Keeps a key for a day past the moment; the day spares writing the TTL each time.
local function outlive(key, moment, now)
  if call('PTTL', key) < moment - now then call('PEXPIREAT', key, moment + DAY .. '') end
end

-- Appends to the outbox: the event's type, session, agent and user, and what changed. The entry's id
-- has the time. A record's tail starts with the agent and the user, 36 characters each.
local function announce(event, id, session, detail)
  local said = event .. ' ' .. id .. ' ' .. string.sub(session.tail, 1, 73)
  if detail then said = said .. ' ' .. detail end
  call('XADD', KEYS[6], 'MAXLEN', '~', OUTBOX_LENGTH, '*', 'event', said)
end

-- Sets the warning anew; its entry is kept as long as the session can possibly last.
local function schedule(id, session, now)
  call('ZADD', KEYS[1], session.expires - session.warning .. '', id)
  call('ZREM', KEYS[2], id)
  outlive(KEYS[1], session.limit + retention, now)
end

-- Renews unless the session already lasts until its maximum. Returns whether it did. The warning that
-- is scheduled now comes too early then, and the sweep schedules it anew: that spares each renewal the
-- dearest of its writes. Only one that was due already may have been given, and is to be again.
local function renew(id, session, now)
  if session.expires == session.limit then return false end
  local warned = session.expires - session.warning <= now
  session.renewed = math.max(session.renewed, now)
  session.renewals = session.renewals + 1
  settle(session)
  if warned then schedule(id, session, now) end
  announce('renewed', id, session, session.expires)
  return true
end

-- Counts an activity, which renews where the session asks for that. Returns whether it did.
local function touch(id, session, now)
  session.active = math.max(session.active, now)
  return session.auto == '1' and renew(id, session, now)
end

-- Members of the listings; the tail has agent and user, the members of users the user first.
local function users_member(id, session)
  return string.sub(session.tail, 38, 73) .. ':' .. string.sub(session.tail, 1, 36) .. ':' .. id
end

local function agents_member(id, session)
  return string.sub(session.tail, 1, 36) .. ':' .. id
end

-- Lists the session. What it leaves in its shard is kept as long as it can possibly last.
local function index(id, session, now)
  local gone = session.limit + retention
  call('ZADD', KEYS[4], 0, users_member(id, session))
  call('ZADD', KEYS[5], 0, agents_member(id, session))
  outlive(KEYS[4], gone, now)
  outlive(KEYS[5], gone, now)
  outlive(KEYS[6], gone, now)
end

local function unindex(id, session, now)
  call('ZREM', KEYS[1], id)
  if session.expires - session.warning <= now then call('ZREM', KEYS[2], id) end
  call('ZREM', KEYS[4], users_member(id, session))
  call('ZREM', KEYS[5], agents_member(id, session))
end
