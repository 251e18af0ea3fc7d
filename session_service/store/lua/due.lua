-- Counts the sessions of several shards by the sizes of their sorted sets, which takes the same time for
-- any number of sessions, and finds the shards in which deadlines are due.
--
-- Sessions in expire that are due are over. Those in warn that are due may be near their expiration,
-- renewed since, or over: MAX_READ of them are read in all, and the others count as active. The sweep
-- moves all of them on within half a second unless it is behind.
-- Reply  of each shard six numbers: 1 if anything is due, or 0; active; near expiration; expired; known
--        to be unreadable; age in ms of the oldest deadline that was not acted on

local until_now = now .. ''

-- Returns the size of a set, how many of its entries are due, and the age of the oldest of those.
local function sizes(key)
  local size = call('ZCARD', key)
  local due = size > 0 and call('ZCOUNT', key, '-inf', until_now) or 0
  if due == 0 then return size, 0, 0 end
  return size, due, now - call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
end

local reply = {}
for place = 1, #SHARDS, 2 do
  local keys = keys_of(place)
  local warn, expire = keys .. OF_WARN, keys .. OF_EXPIRE
  local active, warnings_due, late = sizes(warn)
  local near, expiries_due, later = sizes(expire)
  local expired, ends_due = sizes(keys .. OF_FORGET)
  local unreadable, checks_due = sizes(keys .. OF_UNREADABLE)
  near, expired = near - expiries_due, expired - ends_due
  active = active + near
  if expiries_due > 0 then
    expired = expired + call('ZCOUNT', expire, '(' .. now - RETENTION_MS, until_now)
  end
  if warnings_due > 0 and MAX_READ > 0 then
    local due = call('ZRANGEBYSCORE', warn, '-inf', until_now, 'LIMIT', 0, MAX_READ)
    MAX_READ = MAX_READ - #due
    for _, session_id in ipairs(due) do
      local session = look_up(keys .. id_text(session_id))
      if not session or session.expires <= now then
        active = active - 1
        if session and session.expires + RETENTION_MS > now then expired = expired + 1 end
      elseif session.expires - session.warning <= now then
        near = near + 1
      end
    end
  end
  local at = #reply
  reply[at + 1] = warnings_due + expiries_due + ends_due + checks_due > 0 and 1 or 0
  reply[at + 2], reply[at + 3], reply[at + 4] = active, near, expired
  reply[at + 5], reply[at + 6] = unreadable, math.max(late, later)
end
return reply
