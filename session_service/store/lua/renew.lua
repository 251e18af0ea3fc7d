-- Renews a session because it was asked to, whether or not it renews by itself.
-- Reply  {record}, or as load() has it if the session is not alive; {record, 'exhausted'} where
--        nothing is left to gain, which changes nothing

local session, record = load()
if not session then return record end
session.active = math.max(session.active, now)
if not renew(session) then return {record, 'exhausted'} end
return {save(session)}
