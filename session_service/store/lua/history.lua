-- Reads a page of a conversation.
-- Reply  {record, more (0|1), messages}, or as load() has it if the session is not alive; 'unreadable'
--        if a message is damaged

local session, record = load()
if not session then return record end
local messages, more = page(MESSAGES)
return messages and {record, more, messages} or 'unreadable'
