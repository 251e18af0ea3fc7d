-- Stands behind a script that is to happen once, which is the function act here (scripts.py).
-- KEYS   OUTCOME
-- Reply  the script's own, in an array and as JSON: the first time's, however often it is asked; if
--        nothing was done because the record cannot be read, the next time's

local REMEMBERED = 90000000  -- an hour longer than the claim; clocks of a cluster's servers differ
local outcome = redis.call('GET', OUTCOME)
if not outcome then
  local reply = act()
  outcome = cjson.encode({reply})
  if reply == 'unreadable' then return outcome end  -- another time it may be readable
  redis.call('SET', OUTCOME, outcome, 'PX', REMEMBERED)
end
return outcome
