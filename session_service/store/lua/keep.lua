-- What becomes of a conversation when its session is over: it is kept for a while, by its channel.
-- KEYS  KEPT and PARTIES, what stands before a channel's id
-- ARGV  the last: for how long after that moment (ms)
local function close(messages_key, session, moment)
  local parties, channel = string.sub(session.tail, 1, 73), string.sub(session.tail, 75, 110)
  local gone = moment + ARGV[#ARGV]
  if gone <= now then return call('UNLINK', messages_key) end
  call('SET', PARTIES .. channel, parties, 'PXAT', gone .. '')
  if call('EXISTS', messages_key) == 1 then
    call('RENAME', messages_key, KEPT .. channel)
    call('PEXPIREAT', KEPT .. channel, gone .. '')
  end
end
