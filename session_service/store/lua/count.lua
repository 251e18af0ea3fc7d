-- Counts a shard's sessions. Exact however far behind the sweep is, as long as it is less than
-- BACKLOG entries; the cost grows with that backlog, not with the sessions.
-- ARGV   2 session key prefix  3 listing index: 4 (users) | 5 (agents), or '' to match nothing
--        4 how the members that match start
-- Reply  {active, near expiration, expired, matching, age of the oldest deadline not acted on (ms)}

local BACKLOG = 1000
local now = clock()
local function due(key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', now .. '', 'WITHSCORES', 'LIMIT', 0, BACKLOG)
end
local index, owner = KEYS[tonumber(ARGV[3])], ARGV[4]
local first, last = '[' .. owner, '(' .. owner .. '~'  -- no member has a byte above ~

local near = redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf')
local waiting = redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')
local expired = redis.call('ZCOUNT', KEYS[3], '(' .. now, '+inf')
local matching, lag = 0, 0
if index then
  matching = redis.call('ZLEXCOUNT', index, first, last)
end

-- What the sweep has not come to: warnings due may belong to expired sessions by now.
for _, key in ipairs({KEYS[1], KEYS[2]}) do
  local entries = due(key)
  if entries[2] then lag = math.max(lag, now - entries[2]) end
  for i = 1, #entries, 2 do
    local state, session = read(redis.call('GET', ARGV[2] .. entries[i]), now)
    if state == 'live' then
      if session.expires - session.warning <= now then near = near + 1 else waiting = waiting + 1 end
    else
      if state == 'expired' then expired = expired + 1 end
      if session and index then
        local member = index == KEYS[4] and users_member(entries[i], session) or agents_member(entries[i], session)
        if string.sub(member, 1, #owner) == owner then matching = matching - 1 end
      end
    end
  end
end
return {waiting + near, near, expired, matching, lag}
