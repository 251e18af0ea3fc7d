-- Counts a shard's sessions: corrects the sizes by what is due. Exact while less than BACKLOG is.
-- ARGV   3 how the members of the listing that match start, or '' to match all
-- Reply  {active, near expiration, expired, matching, age of the oldest deadline not acted on (ms)}

local BACKLOG = 1000
local lag = 0
local function due(key)
  return call('ZRANGEBYSCORE', key, '-inf', now .. '', 'WITHSCORES', 'LIMIT', 0, BACKLOG)
end
local function starts(member) return string.sub(member, 1, #start) == start end

expired = expired - #due(FORGET) / 2
for _, key in ipairs({WARN, EXPIRE}) do
  local entries = due(key)
  if entries[2] then lag = math.max(lag, now - entries[2]) end
  for n = 1, #entries, 2 do
    local session_id = entries[n]
    local record = call('GET', SESSION .. session_id)
    local session = record and read(record)
    if session and session.expires > now then
      -- in EXPIRE all are counted as near already; in WARN some were renewed since
      if key == WARN and session.expires - session.warning <= now then near = near + 1 end
    else
      active = active - 1
      if key == EXPIRE then near = near - 1 end
      if session and session.expires + retention > now then expired = expired + 1 end
      if session then
        local by_user, by_agent = members(session_id, session)
        if starts(by_user) or starts(by_agent) then matching = matching - 1 end
      end
    end
  end
end
return {active, near, expired, start == '' and active or matching, lag}
