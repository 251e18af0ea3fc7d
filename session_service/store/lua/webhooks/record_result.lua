-- Records the result of a delivery. One that failed holds its lane back until it is tried again; if it
-- has been tried for long enough, it is parked.
-- Reply  'done' | 'failed' | 'dead', or 'late' if another node has claimed the lane meanwhile

local REVIVED = 50  -- lanes brought forward by one script
local AWAY = 5      -- failures in a row after which an endpoint counts as back when it succeeds

-- Lanes that wait for an endpoint which is back need not wait any longer.
local function revive()
  local left = call('HGET', STATE, 'reviving')
  local failures = call('HGET', STATE, 'failures')
  if failures then
    call('HDEL', STATE, 'failures')
    if failures - AWAY >= 0 then left = call('ZCOUNT', DUE, '(' .. now, '+inf') end
  end
  if not left then return end
  for _, waiting in ipairs(call('ZREVRANGEBYSCORE', DUE, '+inf', '(' .. now, 'LIMIT', 0, REVIVED)) do
    call('ZADD', DUE, now .. '', waiting)
  end
  if left - REVIVED > 0 then call('HSET', STATE, 'reviving', left - REVIVED .. '')
  else call('HDEL', STATE, 'reviving') end
end

local lease = call('ZSCORE', LEASED, SESSION_ID)
local body = call('HGET', BODIES, EVENT_ID)
if not lease or lease - LEASE ~= 0 or not parse(body or '') then return 'late' end
call('ZREM', LEASED, SESSION_ID)

local outcome, due = 'done', now
if not FAILURE then
  call('ZREM', QUEUE, member(SESSION_ID, EVENT_ID))
  call('HDEL', BODIES, EVENT_ID)
  revive()
else
  local failures, queued, _, text = parse(body)
  call('HINCRBY', STATE, 'failures', 1)
  call('HSET', BODIES, EVENT_ID, failures + 1 .. ' ' .. queued .. ' ' .. FAILURE .. ' ' .. text)
  local give_up = queued + RETRY_MS
  if now < give_up then
    outcome, due = 'failed', math.min(now + DELAY_MS, give_up)
  else
    outcome = 'dead'
    call('ZREM', QUEUE, member(SESSION_ID, EVENT_ID))
    call('ZADD', DEAD, now .. '', EVENT_ID)
    local over = call('ZCARD', DEAD) - MAX_DEAD
    if over > 0 then
      call('HINCRBY', STATE, 'dropped', over)
      for _, oldest in ipairs(call('ZRANGE', DEAD, 0, over - 1)) do
        call('ZREM', DEAD, oldest)
        call('HDEL', BODIES, oldest)
      end
    end
    for _, key in ipairs({DEAD, BODIES}) do keep(key) end
  end
end
if first(SESSION_ID) then
  call('ZADD', DUE, due .. '', SESSION_ID)
  keep(DUE)
end
keep(STATE)
return outcome
