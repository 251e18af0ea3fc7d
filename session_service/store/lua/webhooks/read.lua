-- Reads the webhooks, and sees that they are kept.
-- ARGV   1 the version that is known, or ''  2 for how long they are kept (ms)
-- Reply  'same' where that is the version; else {names and values}

local left = redis.call('PTTL', WEBHOOKS)
if left >= 0 and left < ARGV[2] - 86400000 then redis.call('PEXPIRE', WEBHOOKS, ARGV[2]) end
if redis.call('HGET', WEBHOOKS, 'version') == ARGV[1] then return 'same' end
return redis.call('HGETALL', WEBHOOKS)
