-- Decides which sessions exist for a caller. VIEWER limits it: 'u' and a user, 'a' and agents, or 's' and a
-- session (records.py, pack_viewer); nil is no limit. For other sessions a caller gets the reply for one that
-- does not exist, after the same steps.

-- Returns whether a session is the viewer's, by its tail, which begins with its agent and user.
local function belongs(tail, session_id)
  local kind = string.sub(VIEWER, 1, 1)
  if kind == 'u' then return string.sub(tail, USER_START, USER_END) == string.sub(VIEWER, 2) end
  if kind == 's' then return session_id == string.sub(VIEWER, 2) end
  local agent = string.sub(tail, 1, ID_LENGTH)
  for place = 2, #VIEWER, ID_LENGTH do
    if string.sub(VIEWER, place, place + ID_LENGTH - 1) == agent then return true end
  end
  return false
end
