-- Ends the oldest sessions of the user, with whose id members of the listing start, until the user has less
-- than MAX_SESSIONS. Returns whether there is room then. It stands in the place of room.lua.
--
-- Mostly one session is ended. There are more if MAX_SESSIONS was lowered: MOST of them take some 1 ms, and
-- each creation ends as many. Sessions that have expired do not count. Those that the caller may not see,
-- or that cannot be read, count and stay.
local MOST = 100
local replaced  -- their ids as text; nil if there is none

local function make_room(start)
  local first, last = '[' .. start, '(' .. start .. LAST_BYTES
  local excess = call('ZLEXCOUNT', LISTING, first, last) - MAX_SESSIONS + 1
  if excess <= 0 then return true end
  local length = #id_text(SESSION_ID)
  local sessions, messages = string.sub(SESSION, 1, -length - 1), string.sub(MESSAGES, 1, -length - 1)
  local step = 4
  local ended = 0
  for _ = 1, MOST do
    local found = call('ZREVRANGEBYLEX', LISTING, last, first, 'LIMIT', 0, step)
    for _, member in ipairs(found) do
      local session_id = string.sub(member, -ID_LENGTH)
      local name = id_text(session_id)
      local session, problem = look_up(sessions .. name)
      local is_alive = session and session.expires > now
      if is_alive and (not VIEWER or belongs(session.tail, session_id)) then
        end_session(sessions .. name, messages .. name, session_id, session, 'replaced', BY)
        ended = ended + 1
        replaced = replaced or {}
        replaced[ended] = name
        excess = excess - 1
      elseif not is_alive and problem ~= 'unreadable' then
        excess = excess - 1
      end
      if excess <= 0 or ended == MOST then return true end
      last = '(' .. member
    end
    if #found < step then return false end
  end
  return false
end
