-- What becomes of a session that is over: it is deleted with its conversation, in one command.
-- Returns how many keys that removed.
local function remove(session_key, messages_key) return call('UNLINK', session_key, messages_key) end
