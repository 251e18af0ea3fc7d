-- Lists a shard's live sessions, in the order of a listing index.
-- ARGV   2 session key prefix  3 index: 4 (users) | 5 (agents)  4 how the members start: '' for all
--        5 the member after which to start, or ''  6 how many
-- Reply  {clock, id, record, id, record, ...}

local now, index, owner, after, left = clock(), KEYS[tonumber(ARGV[3])], ARGV[4], ARGV[5], tonumber(ARGV[6])
local first = after == '' and '[' .. owner or '(' .. after
local last = '(' .. owner .. '~'  -- no member has a byte above ~
local reply = {now}
while left > 0 do
  local members = call('ZRANGEBYLEX', index, first, last, 'LIMIT', 0, left)
  if #members == 0 then break end
  for _, member in ipairs(members) do
    local id = string.sub(member, -36)
    local record = call('GET', ARGV[2] .. id)
    if read(record, now) == 'live' then
      reply[#reply + 1] = id
      reply[#reply + 1] = record
      left = left - 1
    end
  end
  first = '(' .. members[#members]
end
return reply
