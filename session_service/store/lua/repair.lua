-- Removes from a part of the listing what names sessions whose records are gone. They cannot say whose
-- they were, so all members are looked at, part by part; their deadlines go with the last part, so
-- that whoever starts this anew finds them still. A record that exists, readable or not, keeps its
-- entries.
-- ARGV   3 the member after which to start, or ''  4 how many to look at  5... ids of such sessions
-- Reply  {removed, the member that was looked at last, or '' if it was the last there is}

local after = ARGV[3]
local found = call('ZRANGEBYLEX', LISTING, after == '' and '-' or '(' .. after, '+', 'LIMIT', 0, ARGV[4])
local removed = 0
for _, member in ipairs(found) do
  if call('EXISTS', SESSION .. string.sub(member, -36)) == 0 then
    removed = removed + call('ZREM', LISTING, member)
  end
end
if #found > 0 then return {removed, found[#found]} end
for n = 5, #ARGV do
  if call('EXISTS', SESSION .. ARGV[n]) == 0 then
    call('ZREM', WARN, ARGV[n])
    call('ZREM', EXPIRE, ARGV[n])
    call('ZREM', UNREADABLE, ARGV[n])
    call('UNLINK', MESSAGES .. ARGV[n])
  end
end
return {removed, ''}
