-- What becomes of a conversation when its session is over: it is deleted.
local function close(messages_key) call('UNLINK', messages_key) end
