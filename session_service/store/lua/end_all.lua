-- Ends a shard's live sessions, in the order of the listing; passes over those created too late, and
-- those whose record cannot be read.
-- ARGV   3 how the members of the listing that match start  4 the member after which to start, or ''
--        5 the last creation to end  6 how many members to look at
-- Reply  {clock, how many were ended, the member after which to go on, or ''}

local start, after, last, limit = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local first = after == '' and '[' .. start or '(' .. after
-- no member has a byte above ~
local found = call('ZRANGEBYLEX', LISTING, first, '(' .. start .. '~', 'LIMIT', 0, limit)
local ended = 0
for _, member in ipairs(found) do
  local session_id = string.sub(member, -36)
  local session = look_up(SESSION .. session_id)
  if session and session.expires > now and session.created - last <= 0 then
    finish(SESSION .. session_id, MESSAGES .. session_id, session_id, session, 'bulk')
    ended = ended + 1
  end
end
return {now, ended, #found == limit and found[limit] or ''}
