-- Renews the session unless it already lasts until its maximum. Returns whether it did. The warning
-- that is scheduled comes too early then, and the sweep schedules it anew: that saves each renewal the
-- most expensive of its writes. If the warning was already due, it may have been
-- announced; it is scheduled again here then.
local function renew(session)
  if session.expires == session.limit then return false end
  local warned = session.expires - session.warning <= now
  session.renewed = math.max(session.renewed, now)
  session.renewals = session.renewals + 1 .. ''  -- a string, because it is written twice
  set_deadline(session)
  if warned then
    schedule(SESSION_ID, session)
    call('ZREM', EXPIRE, SESSION_ID)
  end
  announce('renewed', SESSION_ID, session, session.expires .. ' ' .. session.renewals)
  return true
end
