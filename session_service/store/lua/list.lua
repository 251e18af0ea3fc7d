-- Lists a shard's live sessions, in the order of the listing: up to the one that exceeds ``bytes``,
-- and at least two, so that the caller sees whether more follow the last that fits.
-- ARGV   3 how the members start  4 the member after which to start, or ''  5 how many
--        6 bytes of their records
-- Reply  {clock, unreadable, id, record, id, record, ...}; unreadable are the ids of those passed over
--        because their record cannot be read

local start, after, left, space = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local first = after == '' and '[' .. start or '(' .. after
local last = '(' .. start .. '~'  -- no member has a byte above ~
local unreadable = {}
local reply = {now, unreadable}
while left > 0 do
  local wanted = left
  local found = call('ZRANGEBYLEX', LISTING, first, last, 'LIMIT', 0, wanted)
  for _, member in ipairs(found) do
    local session_id = string.sub(member, -36)
    local session, record = look_up(SESSION .. session_id)
    if session and session.expires > now then
      reply[#reply + 1] = session_id
      reply[#reply + 1] = record
      left, space = left - 1, space - #record
      if space < 0 and #reply > 4 then return reply end
    elseif record == 'unreadable' then
      unreadable[#unreadable + 1] = session_id
    end
  end
  if #found < wanted then break end
  first = '(' .. found[wanted]
end
return reply
