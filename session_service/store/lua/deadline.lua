-- The warning, which is the first of a session's deadlines.

-- Keeps a key for a day past the moment; the day spares writing the TTL each time.
local function outlive(key, moment)
  if call('PTTL', key) < moment - now then call('PEXPIREAT', key, moment + 86400000 .. '') end
end

-- Sets the warning; its entry is kept for longer than the session can possibly last.
local function schedule(session_id, session)
  call('ZADD', WARN, session.expires - session.warning .. '', session_id)
  outlive(WARN, session.limit + retention + SPARE)
end
