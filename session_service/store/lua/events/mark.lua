-- Begins the past of shards that have none, and notes which positions are doubtful (past.lua): those
-- after DOUBT_AFTER up to DOUBT_UNTIL, unless that is 0.

for n = 1, #KEYS, SHARD_KEYS do
  local past = past_of(KEYS[n + TRIMMED])
  if DOUBT_UNTIL > 0 then doubt(past, DOUBT_AFTER, DOUBT_UNTIL) end
  keep(KEYS[n + TRIMMED], past, PAST_MS)
end
