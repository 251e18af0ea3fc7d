-- Acts on a shard's deadlines that are due: warnings, expiries, ends of retention.
-- ARGV   3 how many deadlines of each kind at most
-- Reply  {warned, expired, forgotten, more, ids}; more is 1 where there may be more due now; the ids
--        are those of sessions whose record is gone (repair.lua), which stay due

local limit = tonumber(ARGV[3])
local warned, expired, more, lost = 0, 0, 0, {}

local function due(key)
  local ids = call('ZRANGEBYSCORE', key, '-inf', now .. '', 'LIMIT', 0, limit)
  if #ids == limit then more = 1 end
  return ids
end

local function expire(session_id, session)
  call('ZREM', WARN, session_id)
  remove(SESSION .. session_id, MESSAGES .. session_id, session, session.expires)
  local gone = session.expires + retention
  if gone > now then
    call('SET', SESSION .. session_id, 'expired', 'PXAT', gone .. '')
    call('ZADD', FORGET, gone .. '', session_id)
    outlive(FORGET, gone)
  end
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
  outlive(EXPIRE, session.limit + retention + SPARE)
  announce('expiring', session_id, session, session.expires)
  warned = warned + 1
end

for _, key in ipairs({WARN, EXPIRE}) do
  for _, session_id in ipairs(due(key)) do
    local record = call('GET', SESSION .. session_id)
    local session = record and read(record)
    if not session then
      lost[#lost + 1] = session_id
    elseif session.expires > now then
      warn(session_id, session)
    else
      expire(session_id, session)
    end
  end
end
if warned + expired > 0 then outlive(EVENTS, now + SPARE) end

local forgotten = math.min(call('ZCOUNT', FORGET, '-inf', now .. ''), 10 * limit)
if forgotten == 10 * limit then more = 1 end
if forgotten > 0 then call('ZREMRANGEBYRANK', FORGET, 0, forgotten - 1) end
return {warned, expired, forgotten, more, lost}
