-- Announces: appends to the outbox the event's type, session, agent and user, and what changed. The
-- entry's id has the time. A record's tail starts with the agent and the user, 36 characters each.
-- The outbox is bounded by trim.lua.

local function announce(event, session_id, session, detail)
  local said = event .. ' ' .. session_id .. ' ' .. string.sub(session.tail, 1, 73)
  if detail then said = said .. ' ' .. detail end
  call('XADD', EVENTS, '*', 'event', said)
end
