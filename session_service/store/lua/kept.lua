-- Reads a page of a conversation whose session is over.
-- Reply  {agent and user, more (0|1), entries}, or nil if none is kept

local parties = redis.call('GET', PARTIES)
if not parties then return false end
local entries, more = page(KEPT)
return {parties, more, entries}
