-- Lists sessions that are not listed, if the store has evicted the listing of their shard: of LIMIT entries
-- of warn, or of expire if AFTER_WARNING, from the place FIRST on. Removes the entries of sessions whose
-- records are gone.
-- Reply  {how many, the first place of the next part, or -1 at the end}

local deadlines = AFTER_WARNING and EXPIRE or WARN
local found = call('ZRANGE', deadlines, FIRST, FIRST + LIMIT - 1)
local restored, removed = 0, 0
for _, session_id in ipairs(found) do
  local session, problem = look_up(SESSION .. id_text(session_id))
  if session then
    local by_user, by_agent = listing_members(session_id, session)
    if call('ZADD', LISTING, 0, by_user, 0, by_agent) > 0 then
      outlive_session(LISTING, session)
      restored = restored + 1
    end
  elseif problem == 'missing' then
    removed = removed + call('ZREM', deadlines, session_id)
    call('UNLINK', MESSAGES .. id_text(session_id))
  end
end
return {restored, #found == LIMIT and FIRST + LIMIT - removed or -1}
