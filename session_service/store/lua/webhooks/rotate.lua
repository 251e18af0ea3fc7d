-- Replaces the secret of a webhook. The previous secret is in NEW_JSON; it is used until the overlap ends.
-- Reply  when the overlap ends (ms), or nil if the webhook does not have OLD_JSON any more

local enabled, created, json =
  string.match(call('HGET', WEBHOOKS, WEBHOOK_ID) or '', '^(%d) (%d+)[ %d]* ({.*)$')
if json ~= OLD_JSON then return false end
local overlap_until = now + OVERLAP_MS
call('HSET', WEBHOOKS, WEBHOOK_ID, enabled .. ' ' .. created .. ' ' .. overlap_until .. ' ' .. NEW_JSON)
change()
return overlap_until
