-- Records after which EVICTIONS the indexes were verified.
-- Reply  nothing

redis.call('HDEL', VERIFIED, 'node', 'until')
redis.call('HSET', VERIFIED, 'evictions', EVICTIONS)
redis.call('PEXPIRE', VERIFIED, KEPT_MS)
