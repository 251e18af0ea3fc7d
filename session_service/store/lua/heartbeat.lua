-- Records an activity, which renews the session if it is set to renew by itself.
-- Reply  the record, or as load() has it if the session is not alive

local session, record = load()
if not session then return record end
session.active = math.max(session.active, now)
if session.auto == '1' then renew(session) end
return save(session)
