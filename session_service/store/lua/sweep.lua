-- Acts on a shard's deadlines that are due: warnings, expiries, ends of retention.
-- ARGV   2 session key prefix  3 messages key prefix  4 how many of each at most
-- Reply  {warned, expired, forgotten, repaired, more}; more is 1 where there may be more due now

local now, limit = clock(), tonumber(ARGV[4])
local warned, expired, forgotten, repaired, more = 0, 0, 0, 0, 0
local lost = false

local function due(key)
  local ids = redis.call('ZRANGEBYSCORE', key, '-inf', now .. '', 'LIMIT', 0, limit)
  if #ids == limit then more = 1 end
  return ids
end

local function expire(id, session)
  redis.call('DEL', ARGV[3] .. id)
  local gone = session.expires + retention
  if gone > now then
    redis.call('SET', ARGV[2] .. id, 'expired', 'PXAT', gone .. '')
    redis.call('ZADD', KEYS[3], gone .. '', id)
    outlive(KEYS[3], gone, now)
  else
    redis.call('DEL', ARGV[2] .. id)
  end
  unindex(id, session)
  announce('expired', id, session, now, 'expiredAt', session.expires .. '')
  expired = expired + 1
end

-- A session that was renewed since its warning was scheduled has a later one.
local function warn(id, session)
  if session.expires - session.warning > now then return schedule(id, session, now) end
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZADD', KEYS[2], session.expires .. '', id)
  outlive(KEYS[2], session.limit + retention, now)
  announce('expiring', id, session, now, 'expiresAt', session.expires .. '')
  warned = warned + 1
end

for _, key in ipairs({KEYS[1], KEYS[2]}) do
  for _, id in ipairs(due(key)) do
    local state, session = read(redis.call('GET', ARGV[2] .. id), now)
    if state == 'live' then
      warn(id, session)
    elseif session then
      expire(id, session)
    else
      redis.call('ZREM', key, id)
      lost = true
    end
  end
end

forgotten = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now .. '')

-- A session whose key is gone before its deadline was acted on (evicted, or no sweep for all of its
-- retention) cannot say whose it was, so its listings are looked for.
if lost then
  for _, key in ipairs({KEYS[4], KEYS[5]}) do
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      if redis.call('EXISTS', ARGV[2] .. string.sub(member, -36)) == 0 then
        repaired = repaired + redis.call('ZREM', key, member)
      end
    end
  end
end
return {warned, expired, forgotten, repaired, more}
