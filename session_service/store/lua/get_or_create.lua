-- Finds the newest live session of the user and the agent in TAIL, and records an activity; creates one if
-- there is none.
-- Reply  the record of the session that was found, and its id as text; the store's clock if one was
--        created; 'full' if there is none, and none may be created

local STEP = 10  -- only sessions that are over and were not swept yet are skipped

local shard = string.sub(SESSION, 1, -#id_text(SESSION_ID) - 1)
local start = 'a' .. string.sub(TAIL, 1, USER_END)
local first = '[' .. start
repeat
  local found = call('ZRANGEBYLEX', LISTING, first, '(' .. start .. LAST_BYTES, 'LIMIT', 0, STEP)
  for _, member in ipairs(found) do
    local session_id = string.sub(member, -ID_LENGTH)
    local name = id_text(session_id)
    local session = look_up(shard .. name)
    if session and session.expires > now then
      SESSION, SESSION_ID = shard .. name, session_id  -- of which save and renew are
      session.active = math.max(session.active, now)
      if session.auto == '1' then renew(session) end
      return save(session) .. name
    end
    first = '(' .. member
  end
until #found < STEP
return MAX_SESSIONS >= 0 and create() or 'full'
