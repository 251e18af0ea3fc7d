-- Adds an API key. If there are MAX_KEYS, the one that was first to expire or to be revoked makes room.
-- Reply  its record; '' if the id is taken; nil if there are MAX_KEYS valid keys

if call('HEXISTS', API_KEYS, KEY_ID) == 1 then return '' end
if call('HLEN', API_KEYS) - call('HEXISTS', API_KEYS, 'version') >= MAX_KEYS then
  local keys = call('HGETALL', API_KEYS)
  local oldest, oldest_end
  for n = 1, #keys, 2 do
    local expires, revoked = string.match(keys[n + 1], '^1 %d+ (%d+) (%d+) ')
    for _, ended in ipairs({tonumber(expires), tonumber(revoked)}) do
      if ended > 0 and ended <= now and ended < (oldest_end or LATEST_MS) then
        oldest, oldest_end = keys[n], ended
      end
    end
  end
  if not oldest then return false end
  call('HDEL', API_KEYS, oldest)
end
local expires = EXPIRES_IN_MS and now + EXPIRES_IN_MS or 0
return change('1 ' .. now .. ' ' .. expires .. ' 0 0 ' .. HASH .. ' - ' .. JSON)
