-- Claims lanes that are due, to deliver the first event of each.
-- Reply  {clock; when the next lane is due, or 0; how many deliveries were dropped because their body is
--        malformed; of each lane: session, event, until when it is claimed, failures, the event as in the
--        outbox}

go_on_when_memory_is_full()

local CLOCK_EVERY = 10000  -- a step back of the clock holds lanes up no longer than that

-- If the clock went back, everything that is due becomes due as much earlier. A lane that is claimed for
-- far longer than any claim lasts was claimed before that; its event may be delivered again.
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
for _, session in ipairs(call('ZRANGEBYSCORE', LEASED, '(' .. now + 2 * LEASE_MS, '+inf', 'LIMIT', 0, 100)) do
  call('ZADD', LEASED, now .. '', session)
end

-- A node that has claimed a lane and has recorded no result in time is gone.
for _, session in ipairs(call('ZRANGEBYSCORE', LEASED, '-inf', now .. '', 'LIMIT', 0, 100)) do
  call('ZREM', LEASED, session)
  call('ZADD', DUE, now .. '', session)
end

local reply = {now, 0, 0}
local claimed_until = now + LEASE_MS .. ''
for _, session in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', now .. '', 'LIMIT', 0, LIMIT)) do
  local event = first(session)
  local body = event and call('HGET', BODIES, event)
  local failures, _, _, text = parse(body or '')
  if failures then
    call('ZADD', LEASED, claimed_until, session)
    for _, value in ipairs({session, event, claimed_until, tonumber(failures), text}) do
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
