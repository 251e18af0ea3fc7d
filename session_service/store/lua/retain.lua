-- Deletes a session that is over, and keeps its conversation for HISTORY_MS after that moment. Returns
-- how many keys that removed.
-- KEYS  RETAINED and PARTICIPANTS: prefixes, to which the text of the session's id is added
local function delete_session(session_key, messages_key, session_id, session, moment)
  local kept_until = moment + HISTORY_MS
  if kept_until <= now then return call('UNLINK', session_key, messages_key) end
  local removed = call('DEL', session_key)
  local name, participants = id_text(session_id), string.sub(session.tail, 1, USER_END)
  call('SET', PARTICIPANTS .. name, participants, 'PXAT', kept_until .. '')
  if call('EXISTS', messages_key) == 1 then
    call('RENAME', messages_key, RETAINED .. name)
    call('PEXPIREAT', RETAINED .. name, kept_until .. '')
  end
  return removed
end
