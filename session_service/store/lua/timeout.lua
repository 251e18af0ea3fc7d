-- Changes a session's timeout; what is given as '' stays as it is.
-- ARGV   3 timeout  4 maximum duration  5 warning threshold (ms)  6 autoRenew (0|1)
-- Reply  {state, clock, record}; state is live, missing, expired, conflict where the values would
--        contradict each other, or past where the deadline would be. Those two change nothing.

local id, now = ARGV[2], clock()
local state, session, record = load(now)
if state ~= 'live' then return {state, now} end
session.timeout = tonumber(ARGV[3]) or session.timeout
session.duration = tonumber(ARGV[4]) or session.duration
session.warning = tonumber(ARGV[5]) or session.warning
if ARGV[6] ~= '' then session.auto = ARGV[6] end
if session.duration < session.timeout or session.warning > session.timeout then
  return {'conflict', now, record}
end
settle(session)
if session.expires <= now then return {'past', now, record} end
schedule(id, session, now)
index(id, session, now)
announce('updated', id, session, now, 'expiresAt', text(session.expires))
return {state, now, save(session)}
