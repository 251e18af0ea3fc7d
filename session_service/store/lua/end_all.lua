-- Ends a shard's live sessions whose members of the listing start with START, in the order of the
-- listing. Skips those created after LAST_CREATED, and those whose record cannot be read.
-- Reply  {clock, how many were ended, the member after which to continue, or '' at the end}

local first = AFTER == '' and '[' .. START or '(' .. AFTER
local found = call('ZRANGEBYLEX', LISTING, first, '(' .. START .. LAST_BYTES, 'LIMIT', 0, LIMIT)
local ended = 0
for _, member in ipairs(found) do
  local session_id = string.sub(member, -ID_LENGTH)
  local name = id_text(session_id)
  local session = look_up(SESSION .. name)
  if session and session.expires > now and session.created - LAST_CREATED <= 0 then
    end_session(SESSION .. name, MESSAGES .. name, session_id, session, 'bulk', BY)
    ended = ended + 1
  end
end
return {now, ended, #found == LIMIT and found[LIMIT] or ''}
