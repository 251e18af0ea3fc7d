-- Counts the live sessions of several shards, exactly: those in warn and expire, without those that are
-- over and were not swept yet. In expire these are the ones that are due. A warning that is due may be of
-- any session, so it is looked up.
-- Reply  of each shard the number, or -1 if more warnings are due than MAX_READ, of all shards together

local until_now = now .. ''
local reply = {}
for place = 1, #SHARDS, 2 do
  local keys = keys_of(place)
  local warn, expire = keys .. OF_WARN, keys .. OF_EXPIRE
  local total, near = call('ZCARD', warn), call('ZCARD', expire)
  local due = total > 0 and call('ZCOUNT', warn, '-inf', until_now) or 0
  if near > 0 then total = total + near - call('ZCOUNT', expire, '-inf', until_now) end
  if due > MAX_READ then
    total = -1
  elseif due > 0 then
    MAX_READ = MAX_READ - due
    for _, session_id in ipairs(call('ZRANGEBYSCORE', warn, '-inf', until_now)) do
      local session = look_up(keys .. id_text(session_id))
      if not session or session.expires <= now then total = total - 1 end
    end
  end
  reply[#reply + 1] = total
end
return reply
