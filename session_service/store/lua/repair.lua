-- Removes the index entries of sessions whose records are gone: the members of one part of the listing,
-- after the member AFTER, and with the last part the deadlines of LOST_IDS. Without its record nobody
-- knows a session's user, so every member is checked. The deadlines go last, so that a repair that was
-- interrupted is begun again. A record that exists, readable or not, keeps its entries.
-- Reply  {removed, the member that was checked last, or '' if it was the last there is}

local call = redis.call
local first = AFTER == '' and '-' or '(' .. AFTER
local found = call('ZRANGEBYLEX', LISTING, first, '+', 'LIMIT', 0, LIMIT)
local removed = 0
for _, member in ipairs(found) do
  if call('EXISTS', SESSION .. id_text(string.sub(member, -ID_LENGTH))) == 0 then
    removed = removed + call('ZREM', LISTING, member)
  end
end
if #found > 0 then return {removed, found[#found]} end
for _, session_id in ipairs(LOST_IDS) do
  local name = id_text(session_id)
  if call('EXISTS', SESSION .. name) == 0 then
    call('ZREM', WARN, session_id)
    call('ZREM', EXPIRE, session_id)
    call('ZREM', UNREADABLE, session_id)
    call('UNLINK', MESSAGES .. name)
  end
end
return {removed, ''}
