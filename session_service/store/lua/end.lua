-- Ends a session, its conversation with it.
-- Reply  what DEL removed: 1, or 0 where there is no session, or none that is still alive

local session = load()
if not session then return 0 end
local removed = call('DEL', SESSION)
call('UNLINK', MESSAGES)
call('ZREM', WARN, id)
if session.expires - session.warning <= now then call('ZREM', EXPIRE, id) end
call('ZREM', LISTING, members(id, session))
announce('ended', id, session)
return removed
