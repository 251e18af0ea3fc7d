-- Lists the live sessions of several shards whose members start with START, shard by shard in the order of
-- the listings; of the first shard only those after the member AFTER. At most LIMIT, up to the one with
-- which their records exceed MAX_BYTES, and at least two.
-- Reply  {clock, unreadable, id, record, id, record, ...}; unreadable are the ids of sessions that
--        were skipped because their record cannot be read

local last = '(' .. START .. LAST_BYTES
for place = 1, #SHARDS, 2 do
  local keys = keys_of(place)
  local first = place == 1 and AFTER ~= '' and '(' .. AFTER or '[' .. START
  repeat
    local count = LIMIT - (#reply - 2) / 2
    if count == 0 then return reply end
    local found = call('ZRANGEBYLEX', keys .. OF_LISTING, first, last, 'LIMIT', 0, count)
    for _, member in ipairs(found) do
      if add(keys, string.sub(member, -ID_LENGTH)) then return reply end
    end
    first = '(' .. (found[count] or '')
  until #found < count
end
return reply
