-- Creates a session.
-- ARGV   3 timeout  4 maximum duration  5 warning threshold (ms)  6 autoRenew (0|1)
--        7 the record's tail: agent, user, metadata  8 the most sessions of a user, or 0
-- Reply  the store's clock, which is createdAt, or 'full'
--
-- A session whose expiry was not acted on yet counts, which is half a second after it at most, unless
-- the sweep is behind. One that cannot be read counts, too.
--
-- The record comes last: if an index cannot be written, there is no session.

local session = {
  created = now, active = now, renewed = now, renewals = 0,
  timeout = ARGV[3], duration = ARGV[4], warning = ARGV[5], auto = ARGV[6], tail = ARGV[7],
}
settle(session)
local by_user, by_agent = members(id, session)
if ARGV[8] ~= '0' then  -- no member has a byte above ~
  local start = string.sub(by_user, 1, 38)
  if call('ZLEXCOUNT', LISTING, '[' .. start, '(' .. start .. '~') - ARGV[8] >= 0 then return 'full' end
end
schedule(id, session)
call('ZADD', LISTING, 0, by_user, 0, by_agent)
outlive(LISTING, session.limit + retention + SPARE)
announce('created', id, session, session.expires)
outlive(EVENTS, session.limit + retention + SPARE)
save(session)
return now
