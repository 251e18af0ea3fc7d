-- The warning, which is the first of a session's deadlines.

-- Keeps a key for longer than the session can possibly last, and be remembered.
local function outlive_session(key, session)
  outlive(key, session.limit + RETENTION_MS + SPARE_MS)
end

-- Schedules the warning.
local function schedule(session_id, session)
  call('ZADD', WARN, session.expires - session.warning .. '', session_id)
  outlive_session(WARN, session)
end
