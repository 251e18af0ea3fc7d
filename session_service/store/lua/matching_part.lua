-- Counts the live sessions of a shard whose members of the listing begin with START, as matching.lua does:
-- looks up LIMIT of them, after the member AFTER. Members do not move, so the parts add up.
-- Reply  {number, AFTER of the next part, or '' after the last one}

local first = AFTER == '' and '[' .. START or '(' .. AFTER
local found = call('ZRANGEBYLEX', LISTING, first, '(' .. START .. LAST_BYTES, 'LIMIT', 0, LIMIT)
local number = 0
for _, member in ipairs(found) do
  local session = look_up(SESSION .. id_text(string.sub(member, -ID_LENGTH)))
  if session and session.expires > now then number = number + 1 end
end
return {number, #found == LIMIT and found[LIMIT] or ''}
