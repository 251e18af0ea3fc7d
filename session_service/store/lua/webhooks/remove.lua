-- Removes a webhook.
-- ARGV   1 id
-- Reply  how many were removed

local removed = call('HDEL', WEBHOOKS, ARGV[1])
if removed == 1 then change() end
return removed
