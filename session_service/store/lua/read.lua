-- Reads on in the outboxes of several shards.
-- KEYS   of each shard its events, then up to when they were trimmed
-- ARGV   1 how many events of a shard it may be at least  2 how many in all, about
--        3 the moment before which all were read (ms)
--        4... of each shard the first entry that was not read (a stream id), or '' to leave it out
-- Reply  {seconds, microseconds, then of each shard that has something to tell: its number among
--        those asked, from 0; 'gone' where events that were not read may have been trimmed, 'more'
--        where there may be more, otherwise ''; entries}

local least, left, read = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local reply = {time[1], time[2]}
local function entries(shard, count)
  return redis.call('XRANGE', KEYS[2 * shard - 1], ARGV[shard + 3], '+', 'COUNT', count)
end
local cut = {}
for shard = 1, #KEYS / 2 do
  local first = ARGV[shard + 3]
  if first ~= '' then
    local trimmed = redis.call('GET', KEYS[2 * shard])
    local is_gone = trimmed and trimmed - math.max(string.match(first, '^%d+'), read) > 0
    local found = entries(shard, least)
    left = left - #found
    if is_gone or #found > 0 then
      if #found == least then cut[shard] = #reply + 1 end
      reply[#reply + 1] = shard - 1
      reply[#reply + 1] = is_gone and 'gone' or #found == least and 'more' or ''
      reply[#reply + 1] = found
    end
  end
end
for shard, place in pairs(cut) do  -- what others left is for those that have more
  if left > 0 then
    local found = entries(shard, least + left)
    if #found < least + left and reply[place + 1] == 'more' then reply[place + 1] = '' end
    left = left - (#found - least)
    reply[place + 2] = found
  end
end
return reply
