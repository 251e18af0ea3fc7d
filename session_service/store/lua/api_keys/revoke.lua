-- Revokes an API key, or deletes it if it is unreadable. A full store refuses a script at its first write
-- if that takes memory, so deleting comes first.
-- Reply  how many keys have the id

local record = call('HGET', API_KEYS, KEY_ID)
if not record then return 0 end
local before, revoked, after = string.match(record, '^(1 %d+ %d+ )(%d+)( %d+ %x+ %S+ {.*})$')
if revoked and revoked ~= '0' then return 1 end
call('HDEL', API_KEYS, KEY_ID)
change(revoked and before .. now .. after)
return 1
