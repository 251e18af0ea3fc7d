-- Stands behind a script that is to happen once, which is the function act here (scripts.py).
-- KEYS   OUTCOME; TAILS and USED, what stands before a session's id
-- Reply  the script's own, in an array and as JSON: the first time's, however often it is asked. If
--        nothing was done because there is no such session, it is expired, cannot be read, or a limit
--        is reached, the next time's; or 'too many keys'
--
-- A reply that has a record would keep its metadata once for each Idempotency-Key. So it is kept
-- without the record's tail (agent, user, metadata), and the tail once for the session, with a number
-- that grows when the tail changes.

local REMEMBERED = 90000000  -- an hour longer than the claim; clocks of a cluster's servers differ
local DAY = 86400000
local MOST = 20000  -- a session's keys in a day (KEYS_PER_SESSION, domain/budgets.py)
local NUMBERS = '1 [%d ]+ [01] '  -- of a record, up to its tail
local call, id = redis.call, ARGV[2] or ''

-- Returns the number under which a tail is kept, which is that of the last one if it is the same.
local function keep(number, tail)
  if number == 0 or call('HGET', TAILS .. id, number) ~= tail then
    number = number + 1
    call('HSET', TAILS .. id, number, tail)
  end
  call('PEXPIRE', TAILS .. id, REMEMBERED)
  return number
end

-- Returns the reply that is kept as JSON, with the tail of that number.
local function restored(number, json)
  if number == '0' then return json end
  local tail = number and call('HGET', TAILS .. id, number)
  if not tail then return '["unreadable"]' end
  local _, last = string.find(json, NUMBERS)
  return string.sub(json, 1, last) .. string.sub(cjson.encode(tail), 2, -2) .. string.sub(json, last + 1)
end

local outcome = call('GET', OUTCOME)
if outcome then return restored(string.match(outcome, '^(%d+) (.*)$')) end
local used = tonumber(call('GET', USED .. id) or '0')
if not used then return '["unreadable"]' end
if used >= MOST then return '["too many keys"]' end
-- Both keys are read before anything is done: if one is of the wrong type, nothing is.
local last = call('HLEN', TAILS .. id)
local reply = act()
local json = cjson.encode({reply})
if not reply or reply == 0 or type(reply) == 'string' then return json end
local number, short = 0, json
if type(reply) == 'table' then
  if call('INCR', USED .. id) == 1 then call('PEXPIRE', USED .. id, DAY) end
  local start = string.match(reply[1], '^' .. NUMBERS .. '()')
  number = keep(last, string.sub(reply[1], start))
  reply[1] = string.sub(reply[1], 1, start - 1)
  short = cjson.encode({reply})
end
call('SET', OUTCOME, number .. ' ' .. short, 'PX', REMEMBERED)
return json
