-- Counts the shards, of several, that have sessions of version 0.1.0. Their records have no format: they
-- begin with the creation in epoch milliseconds. A few members of each listing are enough to see that.
-- Reply  how many shards

local MEMBERS = 5
local found = 0
for n = 1, #KEYS, SHARD_KEYS do
  local members = redis.pcall('ZRANGE', KEYS[n + LISTING], 0, MEMBERS - 1)
  for m = 1, #members do
    local record = redis.pcall('GET', KEYS[n + SESSION] .. string.sub(members[m], -ID_LENGTH))
    if type(record) == 'string' and string.find(record, '^%d%d%d%d%d%d%d%d%d%d+ %d+ %d+ ') then
      found = found + 1
      break
    end
  end
end
return found
