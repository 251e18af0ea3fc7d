-- Counts the live sessions of a shard, as total.lua does, of which many warnings are due: looks up LIMIT
-- of them, those that are due last before those due at BEFORE, or '' to begin with. Sessions created in
-- one millisecond are looked up together.
--
-- The sweep takes those that are due first, so it takes none of those that were looked up before unless
-- it has taken all that remain. Then the count is to begin again.
-- Reply  {number to add to the total, BEFORE of the next part, or '' after the last one, 1 to begin again}

local before = BEFORE == '' and now .. '' or '(' .. BEFORE
local due = call('ZREVRANGEBYSCORE', WARN, before, '-inf', 'WITHSCORES', 'LIMIT', 0, LIMIT)
local last = #due == 2 * LIMIT and due[#due] or ''
local ids = {}
for n = 1, #due, 2 do
  if due[n + 1] ~= last then ids[#ids + 1] = due[n] end
end
if last ~= '' then
  for _, session_id in ipairs(call('ZRANGEBYSCORE', WARN, last, last)) do ids[#ids + 1] = session_id end
end

local number, found = 0, 0
for _, session_id in ipairs(ids) do
  local session = look_up(SESSION .. id_text(session_id))
  if session then found = found + 1 end
  if not session or session.expires <= now then number = number - 1 end
end
if last == '' then
  number = number + call('ZCARD', WARN) + call('ZCARD', EXPIRE) - call('ZCOUNT', EXPIRE, '-inf', now .. '')
end
return {number, last, last == '' and BEFORE ~= '' and found == 0 and 1 or 0}
