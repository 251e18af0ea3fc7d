-- What becomes of a session that is over: it is deleted, and its conversation is kept for a while after
-- that moment. Returns how many keys that removed.
-- KEYS  KEPT and PARTIES, what stands before a session's id
-- ARGV  the last: for how long (ms)
local function remove(session_key, messages_key, session_id, session, moment)
  local gone = moment + ARGV[#ARGV]
  if gone <= now then return call('UNLINK', session_key, messages_key) end
  local removed = call('DEL', session_key)
  call('SET', PARTIES .. session_id, string.sub(session.tail, 1, 73), 'PXAT', gone .. '')
  if call('EXISTS', messages_key) == 1 then
    call('RENAME', messages_key, KEPT .. session_id)
    call('PEXPIREAT', KEPT .. session_id, gone .. '')
  end
  return removed
end
