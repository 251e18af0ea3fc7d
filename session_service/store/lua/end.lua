-- Ends a session, its conversation with it.
-- Reply  what DEL removed: 1, or 0 where there is no session, or none that is still alive

local id, now = ARGV[2], clock()
local state, session = load(now)
if state ~= 'live' then return 0 end
local removed = call('DEL', KEYS[7])
call('DEL', KEYS[8])
unindex(id, session, now)
announce('ended', id, session)
return removed
