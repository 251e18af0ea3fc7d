-- Changes a session's timeout; what is given as '' stays as it is.
-- ARGV   3 timeout  4 maximum duration  5 warning threshold (ms)  6 autoRenew (0|1)
-- Reply  {record, clock}, or as load() has it if the session is not alive; {record, clock, why}
--        where nothing is changed: 'conflict' for values that would contradict each other, 'past'
--        for a deadline that would be there

local session, record = load()
if not session then return record end
local function given(value, otherwise) return value ~= '' and value or otherwise end
session.timeout = given(ARGV[3], session.timeout)
session.duration = given(ARGV[4], session.duration)
session.warning = given(ARGV[5], session.warning)
session.auto = given(ARGV[6], session.auto)
if session.duration - session.timeout < 0 or session.timeout - session.warning < 0 then
  return {record, now, 'conflict'}
end
settle(session)
if session.expires <= now then return {record, now, 'past'} end
schedule(id, session)
call('ZREM', EXPIRE, id)
announce('updated', id, session, session.expires .. ' ' .. session.timeout .. ' ' .. session.duration
  .. ' ' .. session.warning .. ' ' .. session.auto)
outlive(LISTING, session.limit + retention + SPARE)
outlive(EVENTS, session.limit + retention + SPARE)
if call('EXISTS', MESSAGES) == 1 then outlive(MESSAGES, session.limit + retention + SPARE) end
return {save(session), now}
