-- Sets a session aside whose record cannot be read: it is counted, and looked at again after a minute.
-- Returns whether it is new there.
local function set_aside(session_id)
  local is_new = call('ZADD', UNREADABLE, now + 60000 .. '', session_id)
  outlive(UNREADABLE, now + SPARE)
  return is_new == 1
end
