-- Reads a page of a conversation whose session is over.
-- ARGV   1 first createdAt  2 last createdAt (stream ids, inclusive)  3 oldest | newest first  4 count
--        5 bytes
-- Reply  {agent and user, more (0|1), entries}, or nil if none is kept

local parties = redis.call('GET', PARTIES)
if not parties then return false end
local entries, more = page(KEPT, ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
return {parties, more, entries}
