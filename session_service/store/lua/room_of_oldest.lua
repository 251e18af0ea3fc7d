-- Ends the oldest sessions of the user, with whose id members of the listing start, until the user has less
-- than MAX_SESSIONS. Returns whether there is room then. If there would be none, no session is ended. It
-- stands in the place of room.lua.
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
  local ids, of_ids = {}, {}  -- of the oldest, and the sessions themselves
  for _ = 1, MOST do
    local found = call('ZREVRANGEBYLEX', LISTING, last, first, 'LIMIT', 0, step)
    for _, member in ipairs(found) do
      local session_id = string.sub(member, -ID_LENGTH)
      local session, problem = look_up(sessions .. id_text(session_id))
      local is_alive = session and session.expires > now
      if is_alive and (not VIEWER or belongs(session.tail, session_id)) then
        ids[#ids + 1] = session_id
        of_ids[session_id] = session
      elseif not is_alive and problem ~= 'unreadable' then
        excess = excess - 1
      end
      last = '(' .. member
      if #ids >= excess or #ids == MOST then break end
    end
    if #ids >= excess or #ids == MOST or #found < step then break end
  end
  if #ids < excess and #ids < MOST then return false end
  for n = 1, math.min(#ids, excess) do
    local name = id_text(ids[n])
    end_session(sessions .. name, messages .. name, ids[n], of_ids[ids[n]], 'replaced', BY)
    replaced = replaced or {}
    replaced[n] = name
  end
  return true
end
