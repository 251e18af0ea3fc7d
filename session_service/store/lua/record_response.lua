-- Stores the response to a request that was claimed with a lease, or without one only ends the lease.
-- Reply  1, or 0 if the claim with this seed no longer exists

if redis.call('HGET', CLAIM, 'seed') ~= SEED then return 0 end
if RESPONSE then redis.call('HSETNX', CLAIM, 'answer', RESPONSE) end
redis.call('HDEL', CLAIM, 'lease')
return 1
