-- Deletes a session that is over, with its conversation, in one command. Returns how many keys that
-- removed. retain.lua stands in its place if conversations are kept.
local function delete_session(session_key, messages_key) return call('UNLINK', session_key, messages_key) end
