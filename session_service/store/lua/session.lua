-- Reads the record of the session SESSION. Replies are the record and, after its newline, words: one
-- string, because Valkey 9 takes 4 us longer to reply with an array.

-- Returns the session if it is alive, and its record. Otherwise returns false, then what to reply:
-- false if it is missing, 'expired <deadline>', or 'unreadable'.
local function load()
  local record = call('GET', SESSION)
  if VIEWER then record = visible(record) end
  if not record then return false, false end
  local session, deadline = read(record)
  if session then
    if session.expires > now then return session, record end
    if session.expires + RETENTION_MS <= now then return false, false end
    deadline = session.expires
  end
  return false, deadline and 'expired ' .. deadline or 'unreadable'
end
