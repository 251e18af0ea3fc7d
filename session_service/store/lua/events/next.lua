-- Takes the next events of several shards for a node of a consumer group. A shard's next events can be
-- taken once its last ones were acknowledged, so that they are handled in order. Events that a node does
-- not acknowledge in time can be taken again.
-- Reply  {of each shard that has some: its number among those of the call, from 0; entries, in which
--        one that was trimmed has false in place of its fields}

-- The nodes are one consumer: they take turns, and names of nodes that are gone would pile up.
local CONSUMER = 'nodes'
local call = redis.call
local reply = {}

local function take(key)
  local waiting = redis.pcall('XPENDING', key, GROUP, '-', '+', MAX_EVENTS)
  if waiting.err then
    if not string.find(tostring(waiting.err), 'NOGROUP', 1, true) then
      call('XPENDING', key, GROUP)  -- raises the same error
    end
    if call('EXISTS', key) == 0 then return {} end
    call('XGROUP', 'DESTROY', key, GROUP)  -- a first write that takes no memory: it works when that is full
    call('XGROUP', 'CREATE', key, GROUP, math.max(0, SINCE - 1) .. '-0')
    waiting = {}
  end
  if #waiting == 0 then
    local read = call('XREADGROUP', 'GROUP', GROUP, CONSUMER, 'COUNT', MAX_EVENTS, 'STREAMS', key, '>')
    -- fakeredis replies as in RESP3: the key, the entries; or nothing.
    return read and (read[2] or read[1] and read[1][2]) or {}
  end
  local entries = {}
  for _, entry in ipairs(waiting) do
    if entry[3] < PATIENCE_MS then return {} end
    entries[#entries + 1] = call('XRANGE', key, entry[1], entry[1])[1] or {entry[1], false}
  end
  for _, entry in ipairs(waiting) do
    call('XCLAIM', key, GROUP, CONSUMER, 0, entry[1], 'JUSTID')
  end
  return entries
end

-- If a key is of the wrong type, the script must fail before it has taken anything of another shard.
for _, key in ipairs(KEYS) do call('XLEN', key) end

for n, key in ipairs(KEYS) do
  local entries = take(key)
  if #entries > 0 then
    reply[#reply + 1] = n - 1
    reply[#reply + 1] = entries
  end
end
return reply
