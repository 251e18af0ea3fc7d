-- Puts events into a queue, each once: those of a shard come in order, so the last one of the shard shows
-- which have been in the queue. WORDS are the id of each event and the event as in the outbox.
-- Reply  {how many were new, how many of those were dropped because the queue was full}

go_on_when_memory_is_full()
local room = MAX_QUEUED - call('ZCARD', QUEUE)
local new, dropped = 0, 0
local last = {}
for n = 1, #WORDS, 2 do
  local event, body = WORDS[n], WORDS[n + 1]
  local ms, shard, number = string.match(event, '^(%d+)%-(%x%x)%-(%d+)$')
  local before = last[shard] or call('HGET', STATE, shard) or '0-0'
  local last_ms, last_number = string.match(before, '^(%d+)%-(%d+)$')
  if not last_ms then last_ms, last_number = '0', '0' end  -- we did not write that
  if ms - last_ms > 0 or (ms == last_ms and number - last_number > 0) then
    last[shard] = ms .. '-' .. number
    new = new + 1
    if room > 0 then
      push(event, session_of(body), body)
      room = room - 1
    else
      dropped = dropped + 1
    end
  end
end
for shard, event in pairs(last) do call('HSET', STATE, shard, event) end
if dropped > 0 then call('HINCRBY', STATE, 'dropped', dropped) end
if new > 0 then
  for _, key in ipairs({QUEUE, BODIES, DUE, STATE}) do keep(key) end
end
return {new, dropped}
