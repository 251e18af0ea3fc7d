-- Creates the session SESSION. Returns the store's clock, which is createdAt, or 'full' if there is no room
-- for it (room.lua, or room_of_oldest.lua). If sessions were ended to make room, their ids
-- follow, as text: {1768473045123, '3f8a1c52-…'}.
--
-- The record comes last: if an index cannot be written, there is no session.
local function create()
  local session = {
    created = now, active = now, renewed = now, renewals = 0, timeout = TIMEOUT_MS,
    duration = MAX_DURATION_MS, warning = WARNING_MS, auto = AUTO_RENEW and '1' or '0', tail = TAIL,
  }
  set_deadline(session)
  local by_user, by_agent = listing_members(SESSION_ID, session)
  if MAX_SESSIONS > 0 and not make_room(string.sub(by_user, 1, ID_LENGTH + 1)) then return 'full' end
  schedule(SESSION_ID, session)
  call('ZADD', LISTING, 0, by_user, 0, by_agent)
  outlive_session(LISTING, session)
  announce('created', SESSION_ID, session, session.expires)
  outlive_session(EVENTS, session)
  save(session)
  return replaced and {now, unpack(replaced)} or now
end
