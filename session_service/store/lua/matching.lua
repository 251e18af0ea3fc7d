-- Counts the live sessions of several shards whose members of the listing begin with START, exactly:
-- without those that are over and were not swept yet, which are among those that are due.
-- Reply  of each shard the number, or -1 if more are due than MAX_READ, of all shards together

local until_now = now .. ''
local first, last = '[' .. START, '(' .. START .. LAST_BYTES

-- Returns how many of the sessions that are due in a set match and are over.
local function over(warn, key, due)
  if due == 0 then return 0 end
  local number = 0
  for _, session_id in ipairs(call('ZRANGEBYSCORE', key, '-inf', until_now)) do
    local session = look_up_beside(warn, session_id)
    if session and session.expires <= now then
      for _, member in ipairs({listing_members(session_id, session)}) do
        if string.sub(member, 1, #START) == START then number = number + 1 end
      end
    end
  end
  return number
end

local reply = {}
for n = 1, #KEYS, SHARD_KEYS do
  local warn, expire = KEYS[n + WARN], KEYS[n + EXPIRE]
  local total = call('ZLEXCOUNT', KEYS[n + LISTING], first, last)
  if total > 0 then
    local warnings = call('ZCOUNT', warn, '-inf', until_now)
    local expiries = call('ZCOUNT', expire, '-inf', until_now)
    if warnings + expiries > MAX_READ then
      total = -1
    else
      MAX_READ = MAX_READ - warnings - expiries
      total = total - over(warn, warn, warnings) - over(warn, expire, expiries)
    end
  end
  reply[#reply + 1] = total
end
return reply
