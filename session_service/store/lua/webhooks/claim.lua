-- Takes lanes that are due, to deliver the first event of each.
-- ARGV   1 how many  2 for how long they are taken (ms)
-- Reply  {clock, when the next lane is due, or 0, how many were dropped because their body has not
--        the form of one; of each lane: session, event, until when it is taken, failures, the event as
--        in the outbox}

go_on_when_memory_is_full()
-- A node that took a lane and did not settle it is gone.
for _, session in ipairs(call('ZRANGEBYSCORE', LEASED, '-inf', now .. '', 'LIMIT', 0, 100)) do
  call('ZREM', LEASED, session)
  call('ZADD', DUE, now .. '', session)
end

local reply = {now, 0, 0}
local taken_until = now + ARGV[2] .. ''
for _, session in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', now .. '', 'LIMIT', 0, ARGV[1])) do
  local event = first(session)
  local body = event and call('HGET', BODIES, event)
  local failures, _, _, told = parse(body or '')
  if failures then
    call('ZADD', LEASED, taken_until, session)
    for _, value in ipairs({session, event, taken_until, failures, told}) do
      reply[#reply + 1] = value
    end
  elseif event then
    call('ZREM', QUEUE, member(session, event))
    if body then
      call('HDEL', BODIES, event)
      call('HINCRBY', STATE, 'dropped', 1)
      reply[3] = reply[3] + 1
    end
  end
  if failures or not event then call('ZREM', DUE, session) end
end
if #reply > 3 then
  for _, key in ipairs({QUEUE, BODIES, DUE, LEASED, STATE}) do keep(key) end
end
for _, key in ipairs({DUE, LEASED}) do
  local next = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if next and (reply[2] == 0 or next - reply[2] < 0) then reply[2] = tonumber(next) end
end
return reply
