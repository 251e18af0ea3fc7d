-- Reads a page of a conversation whose session is over.
-- Reply  {agent and user, more (0|1), entries}, or nil if none is kept

local participants = redis.call('GET', PARTICIPANTS)
if not participants then return false end
local entries, more = page(RETAINED)
return {participants, more, entries}
