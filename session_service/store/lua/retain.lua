-- Deletes a session that is over, and keeps its conversation for HISTORY_MS after that moment. Returns
-- how many keys that removed.
-- KEYS  RETAINED and PARTICIPANTS: prefixes, to which the session's id is added
local function remove(session_key, messages_key, session_id, session, moment)
  local gone = moment + HISTORY_MS
  if gone <= now then return call('UNLINK', session_key, messages_key) end
  local removed = call('DEL', session_key)
  call('SET', PARTICIPANTS .. session_id, string.sub(session.tail, 1, USER_END), 'PXAT', gone .. '')
  if call('EXISTS', messages_key) == 1 then
    call('RENAME', messages_key, RETAINED .. session_id)
    call('PEXPIREAT', RETAINED .. session_id, gone .. '')
  end
  return removed
end
