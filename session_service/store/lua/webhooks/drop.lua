-- Deletes the queue.
-- Reply  how many keys it had

return redis.call('UNLINK', unpack(KEYS))
