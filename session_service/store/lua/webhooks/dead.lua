-- Reads what is parked, oldest first.
-- ARGV   1 after how many  2 how many
-- Reply  {how many there are; of each: event, since when, its body}

local found = redis.call('ZRANGE', DEAD, ARGV[1], ARGV[1] + ARGV[2] - 1, 'WITHSCORES')
local reply = {redis.call('ZCARD', DEAD)}
for n = 1, #found, 2 do
  local body = redis.call('HGET', BODIES, found[n])
  if body then
    for _, value in ipairs({found[n], found[n + 1], body}) do reply[#reply + 1] = value end
  end
end
return reply
