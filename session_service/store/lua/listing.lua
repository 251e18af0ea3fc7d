-- A session's members of the listing; the record's tail has the agent, then the user.
local function members(session_id, session)
  local agent, user = string.sub(session.tail, 1, 36), string.sub(session.tail, 38, 73)
  return 'u' .. user .. ':' .. agent .. ':' .. session_id, 'a' .. agent .. ':' .. session_id
end
