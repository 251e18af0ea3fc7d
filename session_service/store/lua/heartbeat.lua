-- Counts an activity.
-- Reply  {state, clock, record}; state is live, missing or expired

local id, now = ARGV[2], clock()
local state, session = load(now)
if state ~= 'live' then return {state, now} end
touch(id, session, now)
return {state, now, save(session)}
