-- Keeps the answer to a request that was claimed with a lease, or gives the lease back without one.
-- ARGV   1 seed of the claim  2 answer, or ''
-- Reply  1, or 0 where there is no such claim any more

local call, seed, answer = redis.call, ARGV[1], ARGV[2]
if call('HGET', CLAIM, 'seed') ~= seed then return 0 end
if answer ~= '' then call('HSETNX', CLAIM, 'answer', answer) end
call('HDEL', CLAIM, 'lease')
return 1
