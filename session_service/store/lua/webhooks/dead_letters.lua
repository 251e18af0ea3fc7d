-- Reads a page of the deliveries that are parked, oldest first.
-- Reply  {how many there are; of each: event, since when (ms), its body}

local found = redis.call('ZRANGE', DEAD, OFFSET, OFFSET + LIMIT - 1, 'WITHSCORES')
local reply = {redis.call('ZCARD', DEAD)}
for n = 1, #found, 2 do
  local body = redis.call('HGET', BODIES, found[n])
  if body then
    for _, value in ipairs({found[n], found[n + 1], body}) do reply[#reply + 1] = value end
  end
end
return reply
