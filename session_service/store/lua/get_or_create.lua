-- Finds the newest live session of the user and the agent in TAIL, and records an activity; creates one if
-- there is none.
-- Reply  the record of the session that was found, and its id as text; the store's clock if one was
--        created; 'full' if there is none, and none may be created

-- Only sessions that are over and were not swept yet, or cannot be read, are skipped. There are hardly
-- ever any; 1,000 take some 3 ms, and then one is created.
local STEP = 10
local max_steps = 100

local shard = string.sub(SESSION, 1, -#id_text(SESSION_ID) - 1)
local start = 'a' .. string.sub(TAIL, 1, USER_END)
local first = '[' .. start
for _ = 1, max_steps do
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
  if #found < STEP then break end
end
return MAX_SESSIONS >= 0 and create() or 'full'
