-- Reads a conversation whose session is over.
-- ARGV   1 first createdAt  2 last createdAt (stream ids, inclusive)  3 oldest | newest first  4 count
-- Reply  {agent and user, entries}, or nil where none is kept

local call = redis.call
local parties = call('GET', PARTIES)
if not parties then return false end
if ARGV[3] == 'oldest' then
  return {parties, call('XRANGE', KEPT, ARGV[1], ARGV[2], 'COUNT', ARGV[4])}
end
return {parties, call('XREVRANGE', KEPT, ARGV[2], ARGV[1], 'COUNT', ARGV[4])}
