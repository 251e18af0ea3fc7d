-- Ends a session.
-- Reply  how many keys that removed: 0 if there is no session, or none that is still alive;
--        'unreadable'

local session, problem = load()
if not session then return problem == 'unreadable' and problem or 0 end
return end_session(SESSION, MESSAGES, SESSION_ID, session, nil, BY)
