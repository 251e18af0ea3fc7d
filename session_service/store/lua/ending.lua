-- Ends a session that is alive, with its conversation, and announces it, with a reason and by whom, if these
-- are known ('user', 'server' or 'limit'). Returns how many keys that removed. The record goes last: if an index cannot be written, the session
-- stays.
local function end_session(session_key, messages_key, session_id, session, reason, by)
  call('ZREM', WARN, session_id)
  if session.expires - session.warning <= now then call('ZREM', EXPIRE, session_id) end
  call('ZREM', LISTING, listing_members(session_id, session))
  announce('ended', session_id, session, by and (reason or '-') .. ' ' .. by or reason)
  return delete_session(session_key, messages_key, session_id, session, now)
end
