-- Puts back what is parked.
-- ARGV   1 how many of all, oldest first, or 0 for those that are named  2... events
-- Reply  how many were looked at; how many were put back

local events = {}
if ARGV[1] == '0' then
  for n = 2, #ARGV do events[#events + 1] = ARGV[n] end
else
  events = call('ZRANGE', DEAD, 0, ARGV[1] - 1)
end
local replayed = 0
for _, event in ipairs(events) do
  if call('ZREM', DEAD, event) == 1 then
    local body = call('HGET', BODIES, event)
    local _, _, _, told = parse(body or '')
    if told and session_of(told) then
      push(event, session_of(told), told)
      replayed = replayed + 1
    end
  end
end
for _, key in ipairs({QUEUE, BODIES, DUE, DEAD, STATE}) do keep(key) end
return {#events, replayed}
