-- Acts on a shard's deadlines that are due: warnings, expiries, ends of retention.
-- ARGV   2 session key prefix  3 messages key prefix  4 how many of each at most
-- Reply  {warned, expired, forgotten, repaired, more}; more is 1 where there may be more due now

local now, limit = clock(), tonumber(ARGV[4])
local warned, expired, forgotten, repaired, more = 0, 0, 0, 0, 0
local lost = false

local function due(key)
  local ids = call('ZRANGEBYSCORE', key, '-inf', now .. '', 'LIMIT', 0, limit)
  if #ids == limit then more = 1 end
  return ids
end

local function expire(id, session)
  call('DEL', ARGV[3] .. id)
  local gone = session.expires + retention
  if gone > now then
    call('SET', ARGV[2] .. id, 'expired', 'PXAT', gone .. '')
    call('ZADD', KEYS[3], gone .. '', id)
    outlive(KEYS[3], gone, now)
  else
    call('DEL', ARGV[2] .. id)
  end
  unindex(id, session, now)
  announce('expired', id, session, session.expires)
  expired = expired + 1
end

-- A session that was renewed since its warning was scheduled has a later one.
local function warn(id, session)
  if session.expires - session.warning > now then return schedule(id, session, now) end
  call('ZREM', KEYS[1], id)
  call('ZADD', KEYS[2], session.expires .. '', id)
  outlive(KEYS[2], session.limit + retention, now)
  announce('expiring', id, session, session.expires)
  warned = warned + 1
end

for _, key in ipairs({KEYS[1], KEYS[2]}) do
  for _, id in ipairs(due(key)) do
    local state, session = read(call('GET', ARGV[2] .. id), now)
    if state == 'live' then
      warn(id, session)
    elseif session then
      expire(id, session)
    else
      call('ZREM', key, id)
      call('DEL', ARGV[3] .. id)
      lost = true
    end
  end
end

forgotten = call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now .. '')

-- A session whose key is gone before its deadline was acted on (evicted, or no sweep for all of its
-- retention) cannot say whose it was, so its listings are looked for.
if lost then
  for _, key in ipairs({KEYS[4], KEYS[5]}) do
    for _, member in ipairs(call('ZRANGE', key, 0, -1)) do
      if call('EXISTS', ARGV[2] .. string.sub(member, -36)) == 0 then
        repaired = repaired + call('ZREM', key, member)
      end
    end
  end
end
return {warned, expired, forgotten, repaired, more}
