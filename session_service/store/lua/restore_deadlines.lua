-- Gives sessions that have none a deadline, if the store has evicted those of their shard: of LIMIT members
-- of the listing by agent, after the member AFTER.
-- Reply  {how many, the member that was checked last, or '' at the end}

local first = AFTER == '' and '[a' or '(' .. AFTER
local found = call('ZRANGEBYLEX', LISTING, first, '(a' .. LAST_BYTES, 'LIMIT', 0, LIMIT)
local restored = 0
for _, member in ipairs(found) do
  local session_id = string.sub(member, -ID_LENGTH)
  if not (call('ZSCORE', WARN, session_id) or call('ZSCORE', EXPIRE, session_id)) then
    local session = look_up(SESSION .. id_text(session_id))
    if session and session.expires - session.warning > now then
      schedule(session_id, session)
      restored = restored + 1
    elseif session then
      call('ZADD', EXPIRE, session.expires .. '', session_id)
      outlive_session(EXPIRE, session)
      restored = restored + 1
    end
  end
end
return {restored, #found == LIMIT and found[LIMIT] or ''}
