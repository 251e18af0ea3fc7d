-- Tells what became of a delivery. One that failed holds its lane back, to be tried again, or is
-- parked where it has been tried for long enough.
-- ARGV   1 session  2 event  3 until when its lane was taken (ms)  4 the failure, or '' for none
--        5 the pause until it is tried again  6 for how long that is done (ms)
--        7 how many are parked at most
-- Reply  done | failed | dead; late where another node has taken the lane

local REVIVED = 50  -- lanes brought forward by one script
local AWAY = 5      -- failures in a row after which an endpoint counts as back when it succeeds

-- Lanes that wait for an endpoint which has come back need not wait any longer.
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

local session, event, failure = ARGV[1], ARGV[2], ARGV[4]
local lease = call('ZSCORE', LEASED, session)
local body = call('HGET', BODIES, event)
if not lease or lease - ARGV[3] ~= 0 or not parse(body or '') then return 'late' end
call('ZREM', LEASED, session)

local outcome, due = 'done', now
if failure == '' then
  call('ZREM', QUEUE, member(session, event))
  call('HDEL', BODIES, event)
  revive()
else
  local failures, queued, _, told = parse(body)
  call('HINCRBY', STATE, 'failures', 1)
  call('HSET', BODIES, event, failures + 1 .. ' ' .. queued .. ' ' .. failure .. ' ' .. told)
  local give_up = queued + ARGV[6]
  if now < give_up then
    outcome, due = 'failed', math.min(now + ARGV[5], give_up)
  else
    outcome = 'dead'
    call('ZREM', QUEUE, member(session, event))
    call('ZADD', DEAD, now .. '', event)
    local over = call('ZCARD', DEAD) - ARGV[7]
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
if first(session) then
  call('ZADD', DUE, due .. '', session)
  keep(DUE)
end
keep(STATE)
return outcome
