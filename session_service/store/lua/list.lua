-- Lists a shard's live sessions whose members start with START, in the order of the listing, after
-- the member AFTER: at most LIMIT, up to the one with which their records exceed MAX_BYTES, and at
-- least two, so that the caller sees whether more follow the last that fits.
-- Reply  {clock, unreadable, id, record, id, record, ...}; unreadable are the ids of sessions that
--        were skipped because their record cannot be read

local left, space = LIMIT, MAX_BYTES
local first = AFTER == '' and '[' .. START or '(' .. AFTER
local last = '(' .. START .. LAST_BYTES
local unreadable = {}
local reply = {now, unreadable}
while left > 0 do
  local count = left
  local found = call('ZRANGEBYLEX', LISTING, first, last, 'LIMIT', 0, count)
  for _, member in ipairs(found) do
    local session_id = string.sub(member, -ID_LENGTH)
    local session, record = look_up(SESSION .. id_text(session_id))
    if session and session.expires > now then
      reply[#reply + 1] = session_id
      reply[#reply + 1] = record
      left, space = left - 1, space - #record
      if space < 0 and #reply > 4 then return reply end
    elseif record == 'unreadable' then
      unreadable[#unreadable + 1] = session_id
    end
  end
  if #found < count then break end
  first = '(' .. found[count]
end
return reply
