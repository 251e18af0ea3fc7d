-- Counts the sessions of several shards: their sizes, which are known at any number of sessions,
-- corrected by what is due and was not acted on yet. Exact while less than BACKLOG is due in all. A
-- session whose record cannot be read counts as active until its deadline.
-- KEYS   of each shard the six that scripts.py names
-- ARGV   3 how the members of the listing that match start, or '' to match all
-- Reply  of each shard six numbers: active, near expiration, expired, matching, age of the oldest
--        deadline not acted on (ms), those known to be unreadable

local BACKLOG = 2000
local NOTHING = {}
local start = ARGV[3]
local function starts(member) return string.sub(member, 1, #start) == start end

-- Returns what is due of a set, and when each entry was: nothing, nearly always. A look at the first
-- entry tells that, and touches less memory than a range by score does.
local function due(key, size)
  if size == 0 or BACKLOG <= 0 then return NOTHING end
  if call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] - now > 0 then return NOTHING end
  local entries = call('ZRANGEBYSCORE', key, '-inf', now .. '', 'WITHSCORES', 'LIMIT', 0, BACKLOG)
  BACKLOG = BACKLOG - #entries / 2
  return entries
end

local reply = {}
for n = 1, #KEYS, 6 do
  local prefix, warn, expire, forget, listing, unreadable = unpack(KEYS, n, n + 5)
  local warnings, near, expired = call('ZCARD', warn), call('ZCARD', expire), call('ZCARD', forget)
  local active, matching, lag = warnings + near, 0, 0
  if start ~= '' then  -- no member has a byte above ~
    matching = call('ZLEXCOUNT', listing, '[' .. start, '(' .. start .. '~')
  end
  local at_warning, at_expiry = due(warn, warnings), due(expire, near)
  expired = expired - #due(forget, expired) / 2
  for _, entries in ipairs({at_warning, at_expiry}) do
    for m = 1, #entries, 2 do
      local session, why = look_up(prefix .. entries[m])
      if why ~= 'unreadable' then lag = math.max(lag, now - entries[m + 1]) end
      if session and session.expires > now then
        -- in expire all are counted as near already; in warn some were renewed since
        if entries == at_warning and session.expires - session.warning <= now then near = near + 1 end
      else
        active = active - 1
        if entries == at_expiry then near = near - 1 end
        if session and session.expires + retention > now then expired = expired + 1 end
        if session then
          local by_user, by_agent = members(entries[m], session)
          if starts(by_user) or starts(by_agent) then matching = matching - 1 end
        end
      end
    end
  end
  local unread = call('ZCARD', unreadable)
  for _, number in ipairs({active, near, expired, start == '' and active or matching, lag, unread}) do
    reply[#reply + 1] = number
  end
end
return reply
