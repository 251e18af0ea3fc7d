-- Renews a session on request, whether or not it renews by itself.
-- Reply  the record, or as load() has it if the session is not alive; the record and 'exhausted' if the
--        session lasts until its maximum already, which changes nothing

local session, record = load()
if not session then return record end
session.active = math.max(session.active, now)
if not renew(session, true) then return record .. 'exhausted' end
return save(session)
