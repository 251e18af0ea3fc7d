-- Reads a session.
-- Reply  {state, clock, record}; state is live, missing or expired, the record stands with live

local now = clock()
local state, _, record = load(now)
if state ~= 'live' then return {state, now} end
return {state, now, record}
