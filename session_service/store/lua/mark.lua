-- Begins the past of shards that have none, and notes which positions are doubtful (past.lua).
-- KEYS   of each shard its past
-- ARGV   1 after which moment (ms)  2 up to which moment positions are doubtful (ms), or 0 for none
--        3 how long to keep a past (ms)

for _, key in ipairs(KEYS) do
  local past = past_of(key)
  if ARGV[2] ~= '0' then doubt(past, tonumber(ARGV[1]), tonumber(ARGV[2])) end
  keep(key, past, ARGV[3])
end
