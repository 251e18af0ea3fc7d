-- Deletes a queue.
-- Reply  how many keys it had

return redis.call('UNLINK', QUEUE, BODIES, DUE, LEASED, DEAD, STATE)
