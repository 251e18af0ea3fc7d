-- Returns a session's two members of the listing, by its user and by its agent.
local function listing_members(session_id, session)
  local agent = string.sub(session.tail, 1, ID_LENGTH)
  local user = string.sub(session.tail, USER_START, USER_END)
  return 'u' .. user .. ':' .. agent .. ':' .. session_id, 'a' .. agent .. ':' .. session_id
end
