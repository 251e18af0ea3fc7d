-- Reads one of many sessions. Returns it, alive or not, and its record. Otherwise returns nil, then the
-- reason: 'missing', 'expired' if the sweep found it so, or 'unreadable'. A session that cannot be read
-- must not fail the script, and a key that is no string makes GET raise an error.
local function look_up(session_key)
  local record = redis.pcall('GET', session_key)
  if not record then return nil, 'missing' end
  if type(record) == 'table' then
    if string.find(tostring(record.err), 'WRONGTYPE', 1, true) then return nil, 'unreadable' end
    record = call('GET', session_key)  -- raises the same error
  end
  local session, deadline = read(record)
  if session then return session, record end
  return nil, deadline and 'expired' or 'unreadable'
end
