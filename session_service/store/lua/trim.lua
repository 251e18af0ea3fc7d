-- Bounds the outboxes of several shards, step by step. What was trimmed lies before a moment, which is
-- kept, so that a reader can tell a gap.
-- KEYS   of each shard its events, then up to when they were trimmed
-- ARGV   1 how many events a shard may keep, about  2 for how long, about (ms)  3 how long to keep the
--        moment (ms)  4 how many events of a shard to trim at most, about
-- Reply  of each shard how many events it has left, and how many were trimmed

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {}
for n = 1, #KEYS, 2 do
  local events, moment = KEYS[n], false
  local old = redis.call('XTRIM', events, 'MINID', '~', now - ARGV[2] .. '', 'LIMIT', ARGV[4])
  if old > 0 then moment = now - ARGV[2] end
  local many = redis.call('XTRIM', events, 'MAXLEN', '~', ARGV[1], 'LIMIT', ARGV[4])
  if many > 0 then
    local first = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
    moment = first and string.match(first[1], '^%d+') + 1 or now
  end
  if moment then redis.call('SET', KEYS[n + 1], moment .. '', 'PX', ARGV[3]) end
  reply[#reply + 1] = redis.call('XLEN', events)
  reply[#reply + 1] = old + many
end
return reply
