-- Reads the API keys, and extends the time for which they are kept.
-- Reply  'same' if their version is KNOWN_VERSION, otherwise {ids and records, and the version}

local left = redis.call('PTTL', API_KEYS)
if left >= 0 and left < KEPT_MS - DAY_MS then redis.call('PEXPIRE', API_KEYS, KEPT_MS .. '') end
if redis.call('HGET', API_KEYS, 'version') == KNOWN_VERSION then return 'same' end
return redis.call('HGETALL', API_KEYS)
