-- Reads a page of a conversation.
-- ARGV   3 first createdAt  4 last createdAt (stream ids, inclusive)  5 oldest | newest first  6 count
--        7 bytes
-- Reply  {record, more (0|1), entries}, or as load() has it if the session is not alive

local session, record = load()
if not session then return record end
local entries, more = page(MESSAGES, ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]))
return {record, more, entries}
