-- Gives an API key another hash; the last one is accepted as well until the overlap ends.
-- Reply  its record, or nil if there is no such key, or it is revoked or has expired

local created, expires, last, json =
  string.match(call('HGET', API_KEYS, KEY_ID) or '', '^1 (%d+) (%d+) 0 %d+ (%x+) %S+ ({.*)$')
if not created or (expires ~= '0' and tonumber(expires) <= now) then return false end
local hashes = HASH .. ' ' .. last
return change('1 ' .. created .. ' ' .. expires .. ' 0 ' .. now + OVERLAP_MS .. ' ' .. hashes .. ' ' .. json)
