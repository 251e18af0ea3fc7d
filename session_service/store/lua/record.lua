-- Reads a session's record, whose form is in records.py.

-- Returns the session in a record, alive or not. Otherwise returns nil, then the deadline and the tail (agent
-- and user) if the sweep found the session expired, or nil if the record is damaged or of another format. Most numbers stay
-- text, with which Lua calculates, too. The bytes that are checked are the newline at the end, and the
-- brace with which the metadata begin.
local function read(record)
  local created, active, renewed, renewals, timeout, duration, warning, auto, start =
    string.match(record, '^2 (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) ([01]) ()')
  local byte = string.byte
  if not created or byte(record, -1) ~= 10 or byte(record, start + USER_END) ~= 123 then
    local deadline, tail = string.match(record, '^2 expired (%d+) (.*)\n$')
    if tail and #tail == USER_END then return nil, deadline, tail end
    return nil
  end
  active = created + active
  local session = {
    created = created, active = active, renewed = active - renewed, renewals = renewals,
    timeout = timeout, duration = duration, warning = warning, auto = auto,
    tail = string.sub(record, start), limit = 0, expires = 0,
  }
  set_deadline(session)
  if session.limit > LATEST_MS then return end
  return session
end
