-- Reads a page of a conversation.
-- Reply  {record, more (0|1), entries}, or as load() has it if the session is not alive

local session, record = load()
if not session then return record end
local entries, more = page(MESSAGES)
return {record, more, entries}
