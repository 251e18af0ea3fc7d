-- Counts the sessions of several shards, at a cost that does not grow with them: by the sizes of the
-- sorted sets, corrected by the deadlines that are due and were not acted on yet. Exact while fewer
-- than BACKLOG are due in all. A session whose record cannot be read counts as active until its deadline.
-- Sessions match if a member of the listing starts with START; if that is '', all do.
-- Reply  of each shard six numbers: active, near expiration, expired, matching, age of the oldest
--        deadline that was not acted on (ms), those known to be unreadable

local BACKLOG = 2000
local NOTHING = {}
local function matches(member) return string.sub(member, 1, #START) == START end

-- Returns the entries of a set that are due, with their scores; nearly always there are none. Reading
-- the first entry shows that, and touches less memory than a range by score does.
local function due(key, size)
  if size == 0 or BACKLOG <= 0 then return NOTHING end
  if call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] - now > 0 then return NOTHING end
  local entries = call('ZRANGEBYSCORE', key, '-inf', now .. '', 'WITHSCORES', 'LIMIT', 0, BACKLOG)
  BACKLOG = BACKLOG - #entries / 2
  return entries
end

local reply = {}
for n = 1, #KEYS, SHARD_KEYS do
  local prefix, listing = KEYS[n + SESSION], KEYS[n + LISTING]
  local warn, expire, forget = KEYS[n + WARN], KEYS[n + EXPIRE], KEYS[n + FORGET]
  local warnings, near, expired = call('ZCARD', warn), call('ZCARD', expire), call('ZCARD', forget)
  local active, matching, lag = warnings + near, 0, 0
  if START ~= '' then
    matching = call('ZLEXCOUNT', listing, '[' .. START, '(' .. START .. LAST_BYTE)
  end
  local at_warning, at_expiry = due(warn, warnings), due(expire, near)
  expired = expired - #due(forget, expired) / 2
  for _, entries in ipairs({at_warning, at_expiry}) do
    for m = 1, #entries, 2 do
      local session, problem = look_up(prefix .. entries[m])
      if problem ~= 'unreadable' then lag = math.max(lag, now - entries[m + 1]) end
      if session and session.expires > now then
        -- those in expire are counted as near already; of those in warn some were renewed since
        if entries == at_warning and session.expires - session.warning <= now then near = near + 1 end
      else
        active = active - 1
        if entries == at_expiry then near = near - 1 end
        if session and session.expires + RETENTION_MS > now then expired = expired + 1 end
        if session then
          local by_user, by_agent = listing_members(entries[m], session)
          if matches(by_user) or matches(by_agent) then matching = matching - 1 end
        end
      end
    end
  end
  local unreadable = call('ZCARD', KEYS[n + UNREADABLE])
  for _, number in ipairs({active, near, expired, START == '' and active or matching, lag, unreadable}) do
    reply[#reply + 1] = number
  end
end
return reply
