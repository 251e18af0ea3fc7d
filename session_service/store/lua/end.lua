-- Ends a session.
-- Reply  how many keys that removed: 0 if there is no session, or none that is still alive;
--        'unreadable'

local session, why = load()
if not session then return why == 'unreadable' and why or 0 end
return finish(SESSION, MESSAGES, id, session)
