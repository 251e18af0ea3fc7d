-- What becomes of a session that is over: it is deleted, and its conversation is kept for a while after
-- that moment, by its channel.
-- Returns how many keys that removed.
-- KEYS  KEPT and PARTIES, what stands before a channel's id
-- ARGV  the last: for how long (ms)
local function remove(session_key, messages_key, session, moment)
  local parties, channel = string.sub(session.tail, 1, 73), string.sub(session.tail, 75, 110)
  local gone = moment + ARGV[#ARGV]
  if gone <= now then return call('UNLINK', session_key, messages_key) end
  local removed = call('DEL', session_key)
  call('SET', PARTIES .. channel, parties, 'PXAT', gone .. '')
  if call('EXISTS', messages_key) == 1 then
    call('RENAME', messages_key, KEPT .. channel)
    call('PEXPIREAT', KEPT .. channel, gone .. '')
  end
  return removed
end
