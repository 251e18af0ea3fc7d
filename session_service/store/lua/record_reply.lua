-- Calls a script, the function act, once, and records its reply.
-- Reply  {the script's own reply, in an array and as JSON; ''}. If it begins with a record, its parts
--        before and after the record's tail, in an array and as JSON; the tail. Once something was done,
--        each further call gets the recorded reply, and 1 as a third element. A reply is not recorded if
--        nothing was done because the session does not exist, is expired or cannot be read, or because
--        a limit is reached. 'too many keys' if the session has KEYS_PER_SESSION recorded replies of a
--        day.
--
-- A reply with a session's record would store the metadata once for each Idempotency-Key. So it is
-- recorded without the record's tail (agent, user, metadata), which is stored once for the session,
-- under a number that grows when the tail changes. JSON could not hold the tail anyway: its ids are bytes.

local RECORD = '^(2 [%d ]+ [01] )(.*\n)(.*)$'  -- with words after it; only the tail has newlines
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

-- Returns the recorded reply, with the tail of that number.
local function restored(number, json)
  local tail = number == '0' and '' or number and call('HGET', TAILS, number)
  return tail and {json, tail, 1} or {'["unreadable"]', ''}
end

local outcome = call('GET', OUTCOME)
if outcome then return restored(string.match(outcome, '^(%d+) (.*)$')) end
local used = tonumber(call('GET', USED) or '0')
if not used then return {'["unreadable"]', ''} end
if used >= KEYS_PER_SESSION then return {'["too many keys"]', ''} end
-- Both keys are read before anything is done: if one is of the wrong type, nothing is.
local last = call('HLEN', TAILS)
local reply = act()
local start, tail, words
if type(reply) == 'string' then start, tail, words = string.match(reply, RECORD) end
if not tail then
  local json = cjson.encode({reply})
  if reply and reply ~= 0 and type(reply) ~= 'string' then
    call('SET', OUTCOME, '0 ' .. json, 'PX', RECORDED_MS)
  end
  return {json, ''}
end
local json = cjson.encode({start, words})
if call('INCR', USED) == 1 then call('PEXPIRE', USED, DAY_MS) end
call('SET', OUTCOME, store_tail(last, tail) .. ' ' .. json, 'PX', RECORDED_MS)
return {json, tail}
