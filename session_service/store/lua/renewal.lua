-- Renews the session unless it already lasts until its maximum. Returns whether it did. The warning
-- that is scheduled comes too early then, and the sweep schedules it anew: that saves each renewal the
-- most expensive of its writes. If the warning was already due, it may have been announced; it is
-- scheduled again here then.
--
-- A renewal that was not requested is announced only if it is the first in its tenth of the idle
-- timeout, or takes the session out of the time of its warning. The tenths are counted from the epoch,
-- so the record need not say which renewal was announced last.
local function renew(session, is_requested)
  if session.expires == session.limit then return false end
  local tenth = math.floor(10 * session.renewed / session.timeout)
  local warned = session.expires - session.warning <= now
  session.renewed = math.max(session.renewed, now)
  session.renewals = session.renewals + 1
  set_deadline(session)
  local is_news = is_requested or math.floor(10 * session.renewed / session.timeout) ~= tenth
  if warned then
    schedule(SESSION_ID, session)
    call('ZREM', EXPIRE, SESSION_ID)
    is_news = is_news or session.expires - session.warning > now
  end
  if is_news then
    announce('renewed', SESSION_ID, session, session.expires .. ' ' .. session.renewals)
  end
  return true
end
