-- Creates a session.
-- ARGV   3 timeout  4 maximum duration  5 warning threshold (ms)  6 autoRenew (0|1)
--        7 the record's tail: agent, user, metadata
-- Reply  the store's clock, which is createdAt
--
-- The record comes last: if an index cannot be written, there is no session.

local session = {
  created = now, active = now, renewed = now, renewals = 0,
  timeout = ARGV[3], duration = ARGV[4], warning = ARGV[5], auto = ARGV[6], tail = ARGV[7],
}
settle(session)
schedule(id, session)
local by_user, by_agent = members(id, session)
call('ZADD', LISTING, 0, by_user, 0, by_agent)
outlive(LISTING, session.limit + retention + SPARE)
announce('created', id, session, session.expires)
outlive(EVENTS, session.limit + retention + SPARE)
save(session)
return now
