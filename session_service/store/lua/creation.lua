-- Creates the session SESSION. Returns the store's clock, which is createdAt, or 'full'.
--
-- A session that has expired still counts until the sweep has acted on its expiry, which takes half a
-- second at most unless the sweep is behind. One that cannot be read counts, too.
--
-- The record comes last: if an index cannot be written, there is no session.
local function create()
  local session = {
    created = now, active = now, renewed = now, renewals = 0, timeout = TIMEOUT_MS,
    duration = MAX_DURATION_MS, warning = WARNING_MS, auto = AUTO_RENEW and '1' or '0', tail = TAIL,
  }
  set_deadline(session)
  local by_user, by_agent = listing_members(SESSION_ID, session)
  if MAX_SESSIONS > 0 then
    local start = string.sub(by_user, 1, ID_LENGTH + 1)
    if call('ZLEXCOUNT', LISTING, '[' .. start, '(' .. start .. LAST_BYTES) >= MAX_SESSIONS then
      return 'full'
    end
  end
  schedule(SESSION_ID, session)
  call('ZADD', LISTING, 0, by_user, 0, by_agent)
  outlive_session(LISTING, session)
  announce('created', SESSION_ID, session, session.expires)
  outlive_session(EVENTS, session)
  save(session)
  return now
end
