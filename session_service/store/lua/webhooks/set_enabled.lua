-- Enables or disables a webhook.
-- Reply  1 if that changed something, otherwise 0

local before = call('HGET', WEBHOOKS, WEBHOOK_ID)
local digit = IS_ENABLED and '1' or '0'
if not before or string.sub(before, 1, 1) == digit then return 0 end
call('HSET', WEBHOOKS, WEBHOOK_ID, digit .. string.sub(before, 2))
change()
return 1
