-- Calls a script, the function act, once, and records its reply.
-- Reply  the script's own, in an array and as JSON. Once something was done, each further call gets the
--        recorded reply. A reply is not recorded if nothing was done because the session does not
--        exist, is expired or cannot be read, or because a limit is reached. 'too many keys' if the
--        session has KEYS_PER_SESSION recorded replies of a day.
--
-- A reply with a session's record would store the metadata once for each Idempotency-Key. So it is
-- recorded without the record's tail (agent, user, metadata), which is stored once for the session,
-- under a number that grows when the tail changes.

local NUMBERS = '1 [%d ]+ [01] '  -- of a record, up to its tail
local call = redis.call

-- Stores a tail. Returns its number, which is that of the last one if they are the same.
local function store_tail(number, tail)
  if number == 0 or call('HGET', TAILS, number) ~= tail then
    number = number + 1
    call('HSET', TAILS, number, tail)
  end
  call('PEXPIRE', TAILS, RECORDED_MS)
  return number
end

-- Returns the recorded reply, with the tail of that number in it.
local function restored(number, json)
  if number == '0' then return json end
  local tail = number and call('HGET', TAILS, number)
  if not tail then return '["unreadable"]' end
  local _, last = string.find(json, NUMBERS)
  return string.sub(json, 1, last) .. string.sub(cjson.encode(tail), 2, -2) .. string.sub(json, last + 1)
end

local outcome = call('GET', OUTCOME)
if outcome then return restored(string.match(outcome, '^(%d+) (.*)$')) end
local used = tonumber(call('GET', USED) or '0')
if not used then return '["unreadable"]' end
if used >= KEYS_PER_SESSION then return '["too many keys"]' end
-- Both keys are read before anything is done: if one is of the wrong type, nothing is.
local last = call('HLEN', TAILS)
local reply = act()
local json = cjson.encode({reply})
if not reply or reply == 0 or type(reply) == 'string' then return json end
local number, short = 0, json
if type(reply) == 'table' then
  if call('INCR', USED) == 1 then call('PEXPIRE', USED, DAY_MS) end
  local start = string.match(reply[1], '^' .. NUMBERS .. '()')
  number = store_tail(last, string.sub(reply[1], start))
  reply[1] = string.sub(reply[1], 1, start - 1)
  short = cjson.encode({reply})
end
call('SET', OUTCOME, number .. ' ' .. short, 'PX', RECORDED_MS)
return json
