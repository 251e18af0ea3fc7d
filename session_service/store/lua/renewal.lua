-- Renews unless the session already lasts until its maximum. Returns whether it did. The warning that
-- is scheduled now comes too early then, and the sweep schedules it anew: that spares each renewal the
-- dearest of its writes. Only one that was due already may have been given, and is to be again.
local function renew(session)
  if session.expires == session.limit then return false end
  local warned = session.expires - session.warning <= now
  session.renewed = math.max(session.renewed, now)
  session.renewals = session.renewals + 1 .. ''  -- a string, for it is written twice
  settle(session)
  if warned then
    schedule(id, session)
    call('ZREM', EXPIRE, id)
  end
  announce('renewed', id, session, session.expires .. ' ' .. session.renewals)
  return true
end
