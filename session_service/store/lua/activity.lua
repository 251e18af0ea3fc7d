-- Reads when the live sessions of a part of a shard's listing were active last: of those whose members
-- start with START, after the member AFTER; at most LIMIT members, up to the one with which their
-- records exceed MAX_BYTES.
-- Reply  {the member after which to continue, or '' at the end; the ids of sessions that were skipped
--        because their record cannot be read; member, last activity, member, last activity, ...}

local space = MAX_BYTES
local first = AFTER == '' and '[' .. START or '(' .. AFTER
local found = call('ZRANGEBYLEX', LISTING, first, '(' .. START .. LAST_BYTES, 'LIMIT', 0, LIMIT)
local unreadable = {}
local reply = {#found == LIMIT and found[LIMIT] or '', unreadable}
for _, member in ipairs(found) do
  local session_id = string.sub(member, -ID_LENGTH)
  local session, record = look_up(SESSION .. id_text(session_id))
  if session and session.expires > now then
    reply[#reply + 1] = member
    reply[#reply + 1] = session.active
    space = space - #record
    if space < 0 then
      reply[1] = member
      return reply
    end
  elseif record == 'unreadable' then
    unreadable[#unreadable + 1] = session_id
  end
end
return reply
