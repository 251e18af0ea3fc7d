-- Registers a webhook, or changes it, which enables it and ends the overlap of its secrets.
-- Reply  createdAt (ms), or nil if MAX_WEBHOOKS are registered

local before = call('HGET', WEBHOOKS, WEBHOOK_ID)
if not before then
  local others = call('HEXISTS', WEBHOOKS, 'version') + call('HEXISTS', WEBHOOKS, 'settings')
  if call('HLEN', WEBHOOKS) - others >= MAX_WEBHOOKS then return false end
end
local created = before and string.match(before, '^%d (%d+)') or now .. ''
local record = '1 ' .. created .. ' ' .. JSON
if record ~= before then
  call('HSET', WEBHOOKS, WEBHOOK_ID, record)
  change()
end
call('PEXPIRE', WEBHOOKS, KEPT_MS)
return tonumber(created)
