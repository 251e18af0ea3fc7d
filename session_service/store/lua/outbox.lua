-- Announces: appends to the outbox the event's type, session, agent and user, and what changed. The
-- entry's id has the time. A record's tail starts with the agent and the user, 36 characters each.
-- The sweep bounds the outbox. LONGEST is the longest time an event may be kept (settings.py), which its
-- key has to last beyond the sessions.

local LONGEST = 604800000

local function announce(event, session_id, session, detail)
  local said = event .. ' ' .. session_id .. ' ' .. string.sub(session.tail, 1, 73)
  if detail then said = said .. ' ' .. detail end
  call('XADD', EVENTS, '*', 'event', said)
end
