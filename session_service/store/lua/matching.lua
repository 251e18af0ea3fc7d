-- Counts the live sessions of several shards whose members of the listing begin with START, exactly:
-- without those that are over and were not swept yet, which are among those that are due.
-- Reply  of each shard the number, or -1 if more are due than MAX_READ, of all shards together

local until_now = now .. ''
local first, last = '[' .. START, '(' .. START .. LAST_BYTES

-- Returns how many of the sessions that are due in a set match and are over.
local function over(keys, key, due)
  if due == 0 then return 0 end
  local number = 0
  for _, session_id in ipairs(call('ZRANGEBYSCORE', key, '-inf', until_now)) do
    local session = look_up(keys .. id_text(session_id))
    if session and session.expires <= now then
      for _, member in ipairs({listing_members(session_id, session)}) do
        if string.sub(member, 1, #START) == START then number = number + 1 end
      end
    end
  end
  return number
end

local reply = {}
for place = 1, #SHARDS, 2 do
  local keys = keys_of(place)
  local total = call('ZLEXCOUNT', keys .. OF_LISTING, first, last)
  if total > 0 then
    local warn, expire = keys .. OF_WARN, keys .. OF_EXPIRE
    local warnings = call('ZCOUNT', warn, '-inf', until_now)
    local expiries = call('ZCOUNT', expire, '-inf', until_now)
    if warnings + expiries > MAX_READ then
      total = -1
    else
      MAX_READ = MAX_READ - warnings - expiries
      total = total - over(keys, warn, warnings) - over(keys, expire, expiries)
    end
  end
  reply[#reply + 1] = total
end
return reply
