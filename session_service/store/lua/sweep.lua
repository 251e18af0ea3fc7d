-- Acts on a shard's deadlines that are due: warnings, expiries, ends of retention.
-- LIMIT is how many of each kind at max_skipped.
-- Reply  {warned, expired, forgotten, more, lost, unreadable, sizes, late}; more is 1 if more may be due now; lost
--        are the ids of sessions whose record is gone (repair.lua), which stay due; unreadable are the
--        ids of sessions that were set aside just now; sizes are those of warn, expire, forget, unreadable;
--        late is how late each of warned and expired was, in ms, e.g. '120 480'
--
-- A session that cannot be read stays due for GRACE_MS, so that a node that knows its format can act on
-- it. Then it is set aside, so that it holds up those behind it no longer.

local GRACE_MS = 10000
local max_skipped = 10 * LIMIT  -- unreadable or lost sessions to skip
local warned, expired, more, lost, unreadable, late = 0, 0, 0, {}, {}, {}

-- If a key is of the wrong type, the script is to fail before it has written anything.
call('ZCARD', EXPIRE)
call('ZCARD', LISTING)
call('XLEN', EVENTS)
call('ZCARD', UNREADABLE)
local forgotten = math.min(call('ZCOUNT', FORGET, '-inf', now .. ''), 10 * LIMIT)

local function expire(session_id, session)
  call('ZREM', WARN, session_id)
  local name = id_text(session_id)
  delete_session(SESSION .. name, MESSAGES .. name, session_id, session, session.expires)
  local forget_at = session.expires + RETENTION_MS
  if forget_at > now then
    local record = '2 expired ' .. session.expires .. ' ' .. string.sub(session.tail, 1, USER_END) .. '\n'
    call('SET', SESSION .. name, record, 'PXAT', forget_at .. '')
    call('ZADD', FORGET, forget_at .. '', session_id)
    outlive(FORGET, forget_at)
  end
  call('ZREM', EXPIRE, session_id)
  call('ZREM', LISTING, listing_members(session_id, session))
  announce('expired', session_id, session, session.expires)
  late[#late + 1] = now - session.expires
  expired = expired + 1
end

-- Warns of a session's expiry. If it was renewed since its warning was scheduled, it gets a later one.
local function warn(session_id, session)
  if session.expires - session.warning > now then
    call('ZREM', EXPIRE, session_id)
    return schedule(session_id, session)
  end
  call('ZREM', WARN, session_id)
  call('ZADD', EXPIRE, session.expires .. '', session_id)
  outlive_session(EXPIRE, session)
  announce('expiring', session_id, session, session.expires)
  late[#late + 1] = now - session.expires + session.warning
  warned = warned + 1
end

-- Acts on one deadline. Returns whether its entry stays in place.
local function process(key, session_id, due)
  local session, problem = look_up(SESSION .. id_text(session_id))
  if session then
    if session.expires > now then warn(session_id, session) else expire(session_id, session) end
  elseif problem == 'missing' then
    lost[#lost + 1] = session_id
    return true
  elseif problem == 'unreadable' then
    if now - due < GRACE_MS then return true end
    if set_aside(session_id) then unreadable[#unreadable + 1] = session_id end
    call('ZREM', key, session_id)
  else
    call('ZREM', key, session_id)
  end
end

-- Sessions that were set aside before and can be read now get their deadlines again.
local unread = call('ZRANGEBYSCORE', UNREADABLE, '-inf', now .. '', 'LIMIT', 0, LIMIT)
for _, session_id in ipairs(unread) do
  local session, problem = look_up(SESSION .. id_text(session_id))
  if problem == 'unreadable' then
    set_aside(session_id)
  elseif problem == 'missing' then
    lost[#lost + 1] = session_id
  else
    if session and not call('ZSCORE', EXPIRE, session_id) then schedule(session_id, session) end
    call('ZREM', UNREADABLE, session_id)
  end
end
if #unread == LIMIT and #lost < LIMIT then more = 1 end

for _, key in ipairs({WARN, EXPIRE}) do
  local acted, skipped = 0, 0
  repeat
    local count = LIMIT - acted
    local due =
      call('ZRANGEBYSCORE', key, '-inf', now .. '', 'WITHSCORES', 'LIMIT', skipped, count)
    for n = 1, #due, 2 do
      if process(key, due[n], due[n + 1]) then skipped = skipped + 1 else acted = acted + 1 end
    end
  until #due < 2 * count or acted == LIMIT or skipped >= max_skipped
  if acted == LIMIT then more = 1 end
end

if warned + expired > 0 then outlive(EVENTS, now + SPARE_MS) end

if forgotten == 10 * LIMIT then more = 1 end
if forgotten > 0 then call('ZREMRANGEBYRANK', FORGET, 0, forgotten - 1) end
local sizes = {}
for n, key in ipairs({WARN, EXPIRE, FORGET, UNREADABLE}) do sizes[n] = call('ZCARD', key) end
return {warned, expired, forgotten, more, lost, unreadable, sizes, table.concat(late, ' ')}
