-- Leaves the verification of the indexes to NODE for LEASE_MS, unless another node has it.
-- Reply  1 if the node has it, or 0

local claim = call('HMGET', VERIFIED, 'node', 'until')
if claim[1] and claim[1] ~= NODE and claim[2] - now > 0 then return 0 end
call('HSET', VERIFIED, 'node', NODE, 'until', now + LEASE_MS .. '')
call('PEXPIRE', VERIFIED, DAY_MS)
return 1
