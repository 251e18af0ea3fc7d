-- Counts the shards, of several, that have data of a format before OLDEST. The key meta has the format,
-- from format 1 on. Sessions of format 1 and of version 0.1.0, which had no format, have ids of 36 characters
-- in the listing and in the names of their records, which begin with 1 or with the creation in epoch
-- milliseconds; a few members of each listing are enough to see that.
-- Reply  how many shards

local MEMBERS = 5
local ID_CHARACTERS = 36

local function is_old(meta, prefix, listing)
  local format = tonumber(redis.pcall('HGET', meta, 'format') or '')
  if format and format < OLDEST then return true end
  for _, member in ipairs(redis.pcall('ZRANGE', listing, 0, MEMBERS - 1)) do
    local record = redis.pcall('GET', prefix .. 'id:' .. string.sub(member, -ID_CHARACTERS))
    if type(record) == 'string' and string.find(record, '^%d+ %d+ %d+ ') then return true end
  end
  return false
end

local found = 0
for n = 1, #KEYS, SHARD_KEYS do
  if is_old(KEYS[n + META], KEYS[n + SESSION], KEYS[n + LISTING]) then found = found + 1 end
end
return found
