-- Acknowledges entries of a shard's outbox for a group of consumers.
-- ARGV   1 the group  2... the ids of the entries
-- Reply  how many were not acknowledged before

return redis.call('XACK', EVENTS, ARGV[1], unpack(ARGV, 2))
