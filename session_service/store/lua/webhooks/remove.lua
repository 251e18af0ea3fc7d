-- Removes a webhook.
-- Reply  how many were removed

local removed = call('HDEL', WEBHOOKS, WEBHOOK_ID)
if removed == 1 then change() end
return removed
