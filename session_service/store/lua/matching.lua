-- Counts the live sessions of several shards whose members of the listing begin with one of STARTS, exactly:
-- without those that are over and were not swept yet, which are among those that are due.
-- Reply  of each shard the number for each start, or -1 if more are due than MAX_READ, of all shards together

local until_now = now .. ''
local length, place_of, ranges = #STARTS[1], {}, {}
for n, start in ipairs(STARTS) do
  place_of[start] = n
  ranges[n] = {'[' .. start, '(' .. start .. LAST_BYTES}
end

-- Subtracts from the numbers of a shard the sessions that are due in a set and are over.
local function subtract_over(numbers, keys, key, due)
  if due == 0 then return end
  for _, session_id in ipairs(call('ZRANGEBYSCORE', key, '-inf', until_now)) do
    local session = look_up(keys .. id_text(session_id))
    if session and session.expires <= now then
      for _, member in ipairs({listing_members(session_id, session)}) do
        local n = place_of[string.sub(member, 1, length)]
        if n then numbers[n] = numbers[n] - 1 end
      end
    end
  end
end

local reply = {}
for place = 1, #SHARDS, 2 do
  local keys = keys_of(place)
  local numbers, any = {}, false
  for n, range in ipairs(ranges) do
    numbers[n] = call('ZLEXCOUNT', keys .. OF_LISTING, range[1], range[2])
    any = any or numbers[n] > 0
  end
  if any then
    local warn, expire = keys .. OF_WARN, keys .. OF_EXPIRE
    local warnings = call('ZCOUNT', warn, '-inf', until_now)
    local expiries = call('ZCOUNT', expire, '-inf', until_now)
    if warnings + expiries > MAX_READ then
      for n = 1, #numbers do numbers[n] = -1 end
    else
      MAX_READ = MAX_READ - warnings - expiries
      subtract_over(numbers, keys, warn, warnings)
      subtract_over(numbers, keys, expire, expiries)
    end
  end
  for _, number in ipairs(numbers) do reply[#reply + 1] = number end
end
return reply
