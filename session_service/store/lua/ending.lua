-- Ends a session that is alive, with its conversation, and announces why, if anything is told.
-- Returns how many keys that removed.
local function finish(session_key, messages_key, session_id, session, why)
  local removed = remove(session_key, messages_key, session, now)
  call('ZREM', WARN, session_id)
  if session.expires - session.warning <= now then call('ZREM', EXPIRE, session_id) end
  call('ZREM', LISTING, members(session_id, session))
  announce('ended', session_id, session, why)
  return removed
end
