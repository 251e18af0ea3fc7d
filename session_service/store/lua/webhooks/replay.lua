-- Puts parked deliveries back into the queue: those of EVENT_IDS, or the oldest LIMIT if that is not 0.
-- Reply  {how many were looked at, how many were put back}

local events = LIMIT == 0 and EVENT_IDS or call('ZRANGE', DEAD, 0, LIMIT - 1)
local replayed = 0
for _, event in ipairs(events) do
  if call('ZREM', DEAD, event) == 1 then
    local body = call('HGET', BODIES, event)
    local _, _, _, text = parse(body or '')
    if text and session_of(text) then
      push(event, session_of(text), text)
      replayed = replayed + 1
    end
  end
end
for _, key in ipairs({QUEUE, BODIES, DUE, DEAD, STATE}) do keep(key) end
return {#events, replayed}
