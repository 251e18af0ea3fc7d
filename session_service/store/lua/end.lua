-- Ends a session.
-- Reply  how many keys that removed: 0 where there is no session, or none that is still alive

local session = load()
if not session then return 0 end
return finish(SESSION, MESSAGES, id, session)
