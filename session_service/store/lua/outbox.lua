-- Appends an event to the outbox: type, session, agent and user, then what changed, if anything. The
-- entry's id has the time. events/trim.lua bounds the outbox.

local function announce(event, session_id, session, detail)
  local text = event .. ' ' .. session_id .. string.sub(session.tail, 1, USER_END)
  if detail then text = text .. ' ' .. detail end
  call('XADD', EVENTS, '*', 'event', text)
end
