-- Tells which of several shards have deadlines that are due.
-- KEYS   of each shard its warnings, its expiries, its ends of retention, those set aside
-- Reply  the numbers of those shards among the ones asked, from 0; one can be there more than once

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = {}
for n, key in ipairs(KEYS) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first and first - now <= 0 then due[#due + 1] = math.floor((n - 1) / 4) end
end
return due
