-- Tells that entries of a shard's outbox are in all queues they belong to.
-- ARGV   1... their ids
-- Reply  how many were not yet known to be

return redis.call('XACK', EVENTS, 'webhooks', unpack(ARGV))
