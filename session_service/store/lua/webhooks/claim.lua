-- Takes lanes that are due, to deliver the first event of each.
-- ARGV   1 how many  2 for how long they are taken (ms)
-- Reply  {clock, when the next lane is due, or 0, how many were dropped because their body has not
--        the form of one; of each lane: session, event, until when it is taken, failures, the event as
--        in the outbox}

go_on_when_memory_is_full()

local CLOCK_EVERY = 10000  -- a step back of the clock holds lanes up no longer than that

-- If the clock went back, what was due at a moment is due as much earlier. A lane that seems to be
-- taken for far longer than any is was taken before that; its event may be delivered again.
local function follow_clock()
  local last = tonumber(call('HGET', STATE, 'clock')) or 0
  if now < last then
    local lanes = call('ZRANGEBYSCORE', DUE, '(' .. now, '+inf', 'WITHSCORES')
    for n = 1, #lanes, 2 do
      call('ZADD', DUE, math.max(now, lanes[n + 1] - (last - now)) .. '', lanes[n])
    end
  elseif now - last < CLOCK_EVERY then
    return
  end
  call('HSET', STATE, 'clock', now .. '')
  keep(STATE)
end
if call('EXISTS', DUE) == 1 then follow_clock() end
for _, session in ipairs(call('ZRANGEBYSCORE', LEASED, '(' .. now + 2 * ARGV[2], '+inf', 'LIMIT', 0, 100)) do
  call('ZADD', LEASED, now .. '', session)
end

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
