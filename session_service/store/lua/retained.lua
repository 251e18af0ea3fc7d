-- Reads a page of a conversation whose session is over.
-- Reply  {agent and user, more (0|1), messages}, or nil if none of the viewer is kept; 'unreadable' if a message is
--        damaged

local participants = redis.call('GET', PARTICIPANTS)
if not participants or VIEWER and not belongs(participants) then return false end
local messages, more = page(RETAINED)
return messages and {participants, more, messages} or 'unreadable'
