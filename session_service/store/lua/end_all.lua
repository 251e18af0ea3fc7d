-- Ends a shard's live sessions whose members of the listing start with START, in the order of the
-- listing. Skips those created after LAST_CREATED, and those whose record cannot be read.
-- Reply  {clock, how many were ended, the member after which to continue, or '' at the end}

local first = AFTER == '' and '[' .. START or '(' .. AFTER
local found = call('ZRANGEBYLEX', LISTING, first, '(' .. START .. LAST_BYTE, 'LIMIT', 0, LIMIT)
local ended = 0
for _, member in ipairs(found) do
  local session_id = string.sub(member, -ID_LENGTH)
  local session = look_up(SESSION .. session_id)
  if session and session.expires > now and session.created - LAST_CREATED <= 0 then
    end_session(SESSION .. session_id, MESSAGES .. session_id, session_id, session, 'bulk')
    ended = ended + 1
  end
end
return {now, ended, #found == LIMIT and found[LIMIT] or ''}
