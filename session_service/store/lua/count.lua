-- Counts a shard's sessions. The cost is that of what the sweep has not come to, not of the sessions:
-- the sizes are known, and what is due stands in front. Exact while less than BACKLOG is due.
-- ARGV   2 session key prefix  3 listing index: 4 (users) | 5 (agents), or '' to match all
--        4 how the members that match start
-- Reply  {active, near expiration, expired, matching, age of the oldest deadline not acted on (ms)}

local BACKLOG = 1000
local now, index, owner = clock(), KEYS[tonumber(ARGV[3])], ARGV[4]
local function due(key)
  return call('ZRANGEBYSCORE', key, '-inf', now .. '', 'WITHSCORES', 'LIMIT', 0, BACKLOG)
end

local near = call('ZCARD', KEYS[2])
local active = call('ZCARD', KEYS[1]) + near
local expired = call('ZCARD', KEYS[3]) - #due(KEYS[3]) / 2
local matching, lag = 0, 0
if index then  -- no member has a byte above ~
  matching = call('ZLEXCOUNT', index, '[' .. owner, '(' .. owner .. '~')
end

for n, key in ipairs({KEYS[1], KEYS[2]}) do
  local entries = due(key)
  if entries[2] then lag = math.max(lag, now - entries[2]) end
  for i = 1, #entries, 2 do
    local id = entries[i]
    local state, session = read(call('GET', ARGV[2] .. id), now)
    if state == 'live' then
      -- in expire all are counted as near already; in warn some were renewed since
      if n == 1 and session.expires - session.warning <= now then near = near + 1 end
    else
      active = active - 1
      if n == 2 then near = near - 1 end
      if state == 'expired' then expired = expired + 1 end
      if index and session then
        local member = index == KEYS[4] and users_member(id, session) or agents_member(id, session)
        if string.sub(member, 1, #owner) == owner then matching = matching - 1 end
      end
    end
  end
end
return {active, near, expired, index and matching or active, lag}
