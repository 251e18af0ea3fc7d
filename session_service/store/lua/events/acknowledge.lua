-- Acknowledges entries of a shard's outbox for a group of consumers.
-- Reply  how many were not acknowledged before

return redis.call('XACK', EVENTS, GROUP, unpack(IDS))
