-- Changes a session's timeout; what is given as '' stays as it is.
-- ARGV   3 timeout  4 maximum duration  5 warning threshold (ms)  6 autoRenew (0|1)
-- Reply  {state, clock, record}; state is live, missing, expired, conflict where the values would
--        contradict each other, or past where the deadline would be. Those two change nothing.

local id, now = ARGV[2], clock()
local state, session, record = load(now)
if state ~= 'live' then return {state, now} end
local function given(value, otherwise) return value ~= '' and value or otherwise end
session.timeout = given(ARGV[3], session.timeout)
session.duration = given(ARGV[4], session.duration)
session.warning = given(ARGV[5], session.warning)
session.auto = given(ARGV[6], session.auto)
if session.duration - session.timeout < 0 or session.timeout - session.warning < 0 then
  return {'conflict', now, record}
end
settle(session)
if session.expires <= now then return {'past', now, record} end
schedule(id, session, now)
announce('updated', id, session, session.expires)
index(id, session, now)
if call('EXISTS', KEYS[8]) == 1 then outlive(KEYS[8], session.limit + retention, now) end
return {state, now, save(session)}
