-- Reads the webhooks, and extends the time for which they are kept.
-- Reply  'same' if their version is KNOWN_VERSION, otherwise {names and values}

local left = redis.call('PTTL', WEBHOOKS)
if left >= 0 and left < KEPT_MS - DAY_MS then redis.call('PEXPIRE', WEBHOOKS, KEPT_MS .. '') end
if redis.call('HGET', WEBHOOKS, 'version') == KNOWN_VERSION then return 'same' end
return redis.call('HGETALL', WEBHOOKS)
