-- Counts the shards that have sessions of version 0.1.0, whose records have no format: they begin with
-- the creation in epoch milliseconds. A look at a few members of each listing tells that.
-- KEYS   of each shard what stands before a session's id, and the listing
-- Reply  how many shards

local MEMBERS = 5
local found = 0
for n = 1, #KEYS, 2 do
  local members = redis.pcall('ZRANGE', KEYS[n + 1], 0, MEMBERS - 1)
  for m = 1, #members do
    local record = redis.pcall('GET', KEYS[n] .. string.sub(members[m], -36))
    if type(record) == 'string' and string.find(record, '^%d%d%d%d%d%d%d%d%d%d+ %d+ %d+ ') then
      found = found + 1
      break
    end
  end
end
return found
