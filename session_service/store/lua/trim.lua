-- Bounds the outboxes of several shards, step by step, and keeps what is known of their past
-- (past.lua): what was trimmed, and that the data set was seen.
-- KEYS   of each shard its events, then its past
-- ARGV   1 how many events a shard may keep, about  2 for how long, about (ms)  3 how long to keep a
--        past (ms)  4 how many events of a shard to trim at most, about  5 after how long to renew the
--        mark  6 how long after the mark no position is older than a reading (ms)
-- Reply  {clock (ms), of each shard: how many events it has left, how many were trimmed, its past
--        before, or '' if it had none}

local renewed_after, seen_for = tonumber(ARGV[5]), tonumber(ARGV[6])
local reply = {now}
for n = 1, #KEYS, 2 do
  local events, past = KEYS[n], past_of(KEYS[n + 1])
  if now < past.mark then  -- the clock went back, no longer ago than nodes look for that
    doubt(past, now - seen_for, past.mark + seen_for)
    past.mark = now
  elseif now - past.mark >= renewed_after then
    -- Nobody has seen this data set for a while: it was restored, or no node was running.
    if now - past.mark > 2 * seen_for then doubt(past, past.mark + seen_for, now) end
    past.mark = now
  end
  local gone
  local old = redis.call('XTRIM', events, 'MINID', '~', now - ARGV[2] .. '', 'LIMIT', ARGV[4])
  if old > 0 then gone = now - ARGV[2] end
  local many = redis.call('XTRIM', events, 'MAXLEN', '~', ARGV[1], 'LIMIT', ARGV[4])
  if many > 0 then
    local first = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
    gone = first and string.match(first[1], '^%d+') + 1 or now
  end
  if gone then past.gone = math.max(past.gone, gone) end
  keep(KEYS[n + 1], past, ARGV[3])
  reply[#reply + 1] = redis.call('XLEN', events)
  reply[#reply + 1] = old + many
  reply[#reply + 1] = past.before
end
return reply
