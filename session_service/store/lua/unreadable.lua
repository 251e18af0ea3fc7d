-- Sets aside a session whose record cannot be read: it is counted, and checked again after a minute.
-- Returns whether it was not set aside before.
local function set_aside(session_id)
  local is_new = call('ZADD', UNREADABLE, now + 60000 .. '', session_id)
  outlive(UNREADABLE, now + SPARE_MS)
  return is_new == 1
end
