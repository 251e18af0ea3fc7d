-- The queue of a webhook (keys.py). Events have the ids that clients know: <ms>-<shard>-<number>.

local function keep(key) call('PEXPIRE', key, PARKED_MS .. '') end

-- Members of the queue sort as numbers do: a letter before the last number is its length.
-- E.g. '<session> 1764000000000-3f-b12' for event 1764000000000-3f-12.
local function member(session, event)
  local start, number = string.match(event, '^(%d+%-%x%x%-)(%d+)$')
  return session .. ' ' .. start .. string.char(96 + #number) .. number
end

-- Returns the first event of a lane, if there is one. Members that we did not write are removed.
local function first(session)
  while true do
    local found =
      call('ZRANGEBYLEX', QUEUE, '[' .. session .. ' ', '(' .. session .. '!', 'LIMIT', 0, 1)[1]
    if not found then return end
    local start, number = string.match(found, '^%S+ (%d+%-%x%x%-)%l(%d+)$')
    if start then return start .. number end
    call('ZREM', QUEUE, found)
  end
end

-- When Redis is out of memory it refuses a script only at its first write, and only if that takes
-- memory. Deliveries go on then, because they free memory: this write takes none.
local function go_on_when_memory_is_full() keep(STATE) end

local function push(event, session, body)
  call('ZADD', QUEUE, 0, member(session, event))
  call('HSET', BODIES, event, '0 ' .. now .. ' - ' .. body)
  if not call('ZSCORE', LEASED, session) then call('ZADD', DUE, 'NX', now .. '', session) end
end

-- Returns failures, when it was queued, the last failure, and the event as in the outbox.
local function parse(body) return string.match(body, '^(%d+) (%d+) (%S+) (.*)$') end

-- Returns the text of an event's session, or nil if the event is too short.
local function session_of(body)
  local id = string.sub(string.match(body, ' (.*)') or '', 1, ID_LENGTH)
  return #id == ID_LENGTH and id_text(id) or nil
end
