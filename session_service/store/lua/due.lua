-- Finds the shards, of several, in which deadlines are due.
-- Reply  their positions among the shards of the call, from 0; a shard can be there more than once

local due = {}
for n, key in ipairs(KEYS) do
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if first and first - now <= 0 then due[#due + 1] = math.floor((n - 1) / SHARD_KEYS) end
end
return due
