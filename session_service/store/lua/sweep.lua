-- Acts on a shard's deadlines that are due: warnings, expiries, ends of retention.
-- ARGV   2 session key prefix  3 messages key prefix  4 how many of each at most
-- Reply  {warned, expired, forgotten, repaired}; where one reaches the limit, more may be due

local now, limit = clock(), ARGV[4]
local warned, expired, forgotten, repaired = 0, 0, 0, 0
local lost = false

local function due(key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', text(now), 'LIMIT', 0, limit)
end

local function expire(id, session)
  redis.call('DEL', ARGV[3] .. id)
  local gone = session.expires + retention
  if gone > now then
    redis.call('SET', ARGV[2] .. id, 'expired', 'PXAT', text(gone))
    redis.call('ZADD', KEYS[3], text(gone), id)
    outlive(KEYS[3], gone, now)
  else
    redis.call('DEL', ARGV[2] .. id)
  end
  unindex(id, session)
  announce('expired', id, session, now, 'expiredAt', text(session.expires))
  expired = expired + 1
end

local function warn(id, session)
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZADD', KEYS[2], text(session.expires), id)
  outlive(KEYS[2], session.expires + retention, now)
  announce('expiring', id, session, now, 'expiresAt', text(session.expires))
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

forgotten = redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', text(now))

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
return {warned, expired, forgotten, repaired}
