-- Renews a session because it was asked to, whether or not it renews by itself.
-- Reply  {state, clock, record}; state is live, missing, expired, or exhausted where nothing is
--        left to gain, which changes nothing

local id, now = ARGV[2], clock()
local state, session, record = load(now)
if state ~= 'live' then return {state, now} end
session.active = math.max(session.active, now)
if not renew(id, session, now) then return {'exhausted', now, record} end
return {state, now, save(session)}
