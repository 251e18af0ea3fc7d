-- Lists a shard's live sessions whose members start with START, in the order of the listing, after
-- the member AFTER: at most LIMIT, up to the one with which their records exceed MAX_BYTES, and at
-- least two.
-- Reply  {clock, unreadable, id, record, id, record, ...}; unreadable are the ids of sessions that
--        were skipped because their record cannot be read

local first = AFTER == '' and '[' .. START or '(' .. AFTER
local last = '(' .. START .. LAST_BYTES
while true do
  local count = LIMIT - (#reply - 2) / 2
  if count == 0 then return reply end
  local found = call('ZRANGEBYLEX', LISTING, first, last, 'LIMIT', 0, count)
  for _, member in ipairs(found) do
    if add(string.sub(member, -ID_LENGTH)) then return reply end
  end
  if #found < count then return reply end
  first = '(' .. found[count]
end
