-- Bounds the outboxes of several shards, step by step, and keeps their pasts (past.lua): until when they
-- were trimmed, and that a node has seen the data set.
-- Reply  {clock (ms), of each shard: how many events are left, how many were trimmed, its past before, or
--        '' if it had none}

local reply = {now}
for n = 1, #KEYS, SHARD_KEYS do
  local events, past = KEYS[n + EVENTS], past_of(KEYS[n + TRIMMED])
  if now < past.mark then  -- the clock went back, no longer ago than nodes look for that
    doubt(past, now - SEEN_MS, past.mark + SEEN_MS)
    past.mark = now
  elseif now - past.mark >= MARK_MS then
    -- No node has seen this data set for a while: it was restored, or none was running.
    if now - past.mark > 2 * SEEN_MS then doubt(past, past.mark + SEEN_MS, now) end
    past.mark = now
  end
  local gone
  local old = call('XTRIM', events, 'MINID', '~', now - RETENTION_MS .. '', 'LIMIT', LIMIT)
  if old > 0 then gone = now - RETENTION_MS end
  local excess = call('XTRIM', events, 'MAXLEN', '~', MAX_EVENTS, 'LIMIT', LIMIT)
  if excess > 0 then
    local first = call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
    gone = first and string.match(first[1], '^%d+') + 1 or now
  end
  if gone then past.gone = math.max(past.gone, gone) end
  keep(KEYS[n + TRIMMED], past, PAST_MS)
  reply[#reply + 1] = call('XLEN', events)
  reply[#reply + 1] = old + excess
  reply[#reply + 1] = past.before
end
return reply
