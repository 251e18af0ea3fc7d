-- Acts on a shard's deadlines that are due: warnings, expiries, ends of retention; bounds the outbox.
-- ARGV   3 how many deadlines of each kind at most
--        4 how many events the outbox keeps, about  5 for how long, about (ms)
-- Reply  {warned, expired, forgotten, repaired, more, how many events there are}; more is 1 where
--        there may be more due now

local limit = tonumber(ARGV[3])
local warned, expired, forgotten, repaired, more = 0, 0, 0, 0, 0
local lost = false

local function due(key)
  local ids = call('ZRANGEBYSCORE', key, '-inf', now .. '', 'LIMIT', 0, limit)
  if #ids == limit then more = 1 end
  return ids
end

local function expire(session_id, session)
  call('UNLINK', MESSAGES .. session_id)
  local gone = session.expires + retention
  if gone > now then
    call('SET', SESSION .. session_id, 'expired', 'PXAT', gone .. '')
    call('ZADD', FORGET, gone .. '', session_id)
    outlive(FORGET, gone)
  else
    call('DEL', SESSION .. session_id)
  end
  call('ZREM', WARN, session_id)
  call('ZREM', EXPIRE, session_id)
  call('ZREM', LISTING, members(session_id, session))
  announce('expired', session_id, session, session.expires)
  expired = expired + 1
end

-- A session that was renewed since its warning was scheduled has a later one.
local function warn(session_id, session)
  if session.expires - session.warning > now then
    call('ZREM', EXPIRE, session_id)
    return schedule(session_id, session)
  end
  call('ZREM', WARN, session_id)
  call('ZADD', EXPIRE, session.expires .. '', session_id)
  outlive(EXPIRE, session.limit + retention)
  announce('expiring', session_id, session, session.expires)
  warned = warned + 1
end

for _, key in ipairs({WARN, EXPIRE}) do
  for _, session_id in ipairs(due(key)) do
    local record = call('GET', SESSION .. session_id)
    local session = record and read(record)
    if not session then
      call('ZREM', key, session_id)
      call('DEL', MESSAGES .. session_id)
      lost = true
    elseif session.expires > now then
      warn(session_id, session)
    else
      expire(session_id, session)
    end
  end
end

forgotten = call('ZREMRANGEBYSCORE', FORGET, '-inf', now .. '')

-- What was trimmed lies before a moment, which is kept, so that a reader can tell a gap.
if warned + expired > 0 then outlive(EVENTS, now + LONGEST) end
local trimmed = false
if call('XTRIM', EVENTS, 'MINID', '~', now - ARGV[5] .. '') > 0 then trimmed = now - ARGV[5] end
if call('XTRIM', EVENTS, 'MAXLEN', '~', ARGV[4]) > 0 then
  local first = call('XRANGE', EVENTS, '-', '+', 'COUNT', 1)[1]
  trimmed = first and string.match(first[1], '^%d+') + 1 or now
end
if trimmed then call('SET', TRIMMED, trimmed .. '', 'PX', LONGEST .. '') end

-- A session whose key is gone before its deadline was acted on (evicted, or no sweep for all of its
-- retention) cannot say whose it was, so its members of the listing are looked for.
if lost then
  for _, member in ipairs(call('ZRANGE', LISTING, 0, -1)) do
    if call('EXISTS', SESSION .. string.sub(member, -36)) == 0 then
      repaired = repaired + call('ZREM', LISTING, member)
    end
  end
end
return {warned, expired, forgotten, repaired, more, call('XLEN', EVENTS)}
