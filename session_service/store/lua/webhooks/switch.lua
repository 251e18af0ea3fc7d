-- Switches a webhook on or off.
-- ARGV   1 id  2 on (0|1)
-- Reply  1 where that changed something, otherwise 0

local before = call('HGET', WEBHOOKS, ARGV[1])
if not before or string.sub(before, 1, 1) == ARGV[2] then return 0 end
call('HSET', WEBHOOKS, ARGV[1], ARGV[2] .. string.sub(before, 2))
change()
return 1
