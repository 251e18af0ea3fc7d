-- Reads on in the outboxes of several shards.
-- KEYS   of each shard its events, then its past (past.lua)
-- ARGV   1 how many events of a shard it may be at least  2 how many in all, about
--        3... of each shard from where to read:
--          '=<id>' after an entry that was read; it is told if that is not there
--          '><id>' after an entry that need not be there
--          '?<id>' from an id on; the last entry before it is told, too
--          '$'     from now on; the last entry is told
--          ''      not now
-- Reply  {clock (ms), the past of each shard, or '-' if it was not asked, parted by commas; then of
--        each shard that has something to tell: its number among those asked, from 0; the flags 'more' if there may be more and
--        'missing' if the entry is not there; the last entry before, or ''; entries}

local least, left = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local reply, pasts, cut = {time[1] * 1000 + math.floor(time[2] / 1000), false}, {}, {}

local function last_before(key, id)
  local last = redis.call('XREVRANGE', key, id, '-', 'COUNT', 1)[1]
  return last and last[1] or ''
end

-- Returns entries, whether one that was read is missing, and the last entry before.
local function look(key, from, count)
  local how, id = string.sub(from, 1, 1), string.sub(from, 2)
  if how == '$' then return {}, false, last_before(key, '+') end
  if how == '>' then return redis.call('XRANGE', key, '(' .. id, '+', 'COUNT', count), false, '' end
  if how == '?' then
    return redis.call('XRANGE', key, id, '+', 'COUNT', count), false, last_before(key, '(' .. id)
  end
  local found = redis.call('XRANGE', key, id, '+', 'COUNT', count + 1)
  if found[1] and found[1][1] == id then
    table.remove(found, 1)
    return found, false, ''
  end
  return found, true, ''
end

for n = 1, #KEYS, 2 do
  local shard = (n + 1) / 2
  local from = ARGV[shard + 2]
  pasts[shard] = '-'
  if from ~= '' then
    pasts[shard] = redis.call('GET', KEYS[n + 1]) or ''
    local found, missing, last = look(KEYS[n], from, least)
    left = left - #found
    if #found > 0 or missing or string.find(from, '^[?$]') then
      local place = #reply + 1
      reply[place], reply[place + 1] = shard - 1, missing and 'missing' or ''
      reply[place + 2], reply[place + 3] = last, found
      if #found >= least then cut[#cut + 1] = {shard, place} end
    end
  end
end
for _, each in ipairs(cut) do  -- what others left is for those that have more
  local shard, place = each[1], each[2]
  local found, count = reply[place + 3], least
  if left > 0 then
    local before = #found
    count = least + left
    found = look(KEYS[2 * shard - 1], ARGV[shard + 2], count)
    left = left - (#found - before)
    reply[place + 3] = found
  end
  if #found >= count then reply[place + 1] = reply[place + 1] .. ' more' end
end
reply[2] = table.concat(pasts, ',')
return reply
