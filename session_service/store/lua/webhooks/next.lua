-- Takes what follows in the outboxes of several shards, for a group of consumers. A shard's next
-- events are given out once its last ones are done, so that they reach the queues in order; those
-- of a node that does not get done are given out again.
-- KEYS   of each shard its events
-- ARGV   1 the group  2 after how long a node is taken for gone (ms)  3 how many events of a shard
--        at most  4 from when on a new group reads (ms),
--        that millisecond included
-- Reply  {of each shard that has some: its number among those asked, from 0; entries, of which one
--        that was trimmed is false}

-- The nodes are one consumer: they take turns, and names of nodes that are gone would pile up.
local CONSUMER = 'nodes'
local call, group, patience, most = redis.call, ARGV[1], tonumber(ARGV[2]), ARGV[3]
local reply = {}

local function take(key)
  local waiting = redis.pcall('XPENDING', key, group, '-', '+', most)
  if waiting.err then
    if not string.find(tostring(waiting.err), 'NOGROUP', 1, true) then
      call('XPENDING', key, group)  -- raises the same error
    end
    if call('EXISTS', key) == 0 then return {} end
    call('XGROUP', 'DESTROY', key, group)  -- goes on when memory is full, as its first write takes none
    call('XGROUP', 'CREATE', key, group, math.max(0, ARGV[4] - 1) .. '-0')
    waiting = {}
  end
  if #waiting == 0 then
    local read = call('XREADGROUP', 'GROUP', group, CONSUMER, 'COUNT', most, 'STREAMS', key, '>')
    -- fakeredis replies as in RESP3: the key, the entries; or nothing.
    return read and (read[2] or read[1] and read[1][2]) or {}
  end
  local entries = {}
  for _, entry in ipairs(waiting) do
    if entry[3] < patience then return {} end
    entries[#entries + 1] = call('XRANGE', key, entry[1], entry[1])[1] or {entry[1], false}
  end
  for _, entry in ipairs(waiting) do
    call('XCLAIM', key, group, CONSUMER, 0, entry[1], 'JUSTID')
  end
  return entries
end

-- If a key is of the wrong type, the script is to fail before it has taken anything of another shard.
for _, key in ipairs(KEYS) do call('XLEN', key) end

for shard, key in ipairs(KEYS) do
  local entries = take(key)
  if #entries > 0 then
    reply[#reply + 1] = shard - 1
    reply[#reply + 1] = entries
  end
end
return reply
