-- Reads the events that follow in the outboxes of several shards.
-- STARTS has of each shard the place from which to read:
--   '=<id>' after an entry that was read; the reply says if that is not there
--   '><id>' after an entry that need not be there
--   '?<id>' from an id on; the reply has the last entry before it, too
--   '$'     from now on; the reply has the last entry
--   ''      not now
-- Reply  {clock (ms); the past of each shard, or '-' if it is not read now, separated by commas; then of
--        each shard that has news: its number among those of the call, from 0; the flags 'more' if
--        there may be more events and 'missing' if the entry is not there; the last entry before, or '';
--        entries}

local reply, pasts, cut, left = {now, false}, {}, {}, MAX_EVENTS

local function last_before(key, id)
  local last = call('XREVRANGE', key, id, '-', 'COUNT', 1)[1]
  return last and last[1] or ''
end

-- Returns entries, whether the entry that was read is missing, and the last entry before.
local function read(key, start, count)
  local how, id = string.sub(start, 1, 1), string.sub(start, 2)
  if how == '$' then return {}, false, last_before(key, '+') end
  if how == '>' then return call('XRANGE', key, '(' .. id, '+', 'COUNT', count), false, '' end
  if how == '?' then
    return call('XRANGE', key, id, '+', 'COUNT', count), false, last_before(key, '(' .. id)
  end
  local found = call('XRANGE', key, id, '+', 'COUNT', count + 1)
  if found[1] and found[1][1] == id then
    table.remove(found, 1)
    return found, false, ''
  end
  return found, true, ''
end

for shard, start in ipairs(STARTS) do
  local first_key = (shard - 1) * SHARD_KEYS + 1
  local events = KEYS[first_key + EVENTS]
  pasts[shard] = '-'
  if start ~= '' then
    pasts[shard] = call('GET', KEYS[first_key + TRIMMED]) or ''
    local found, missing, last = read(events, start, SHARD_EVENTS)
    left = left - #found
    if #found > 0 or missing or string.find(start, '^[?$]') then
      local place = #reply + 1
      reply[place], reply[place + 1] = shard - 1, missing and 'missing' or ''
      reply[place + 2], reply[place + 3] = last, found
      if #found >= SHARD_EVENTS then cut[#cut + 1] = {events, start, place} end
    end
  end
end
for _, each in ipairs(cut) do  -- the rest of MAX_EVENTS is for shards that have more
  local events, start, place = each[1], each[2], each[3]
  local found, count = reply[place + 3], SHARD_EVENTS
  if left > 0 then
    local before = #found
    count = SHARD_EVENTS + left
    found = read(events, start, count)
    left = left - (#found - before)
    reply[place + 3] = found
  end
  if #found >= count then reply[place + 1] = reply[place + 1] .. ' more' end
end
reply[2] = table.concat(pasts, ',')
return reply
