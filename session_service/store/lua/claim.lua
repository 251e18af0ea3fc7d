-- Claims an Idempotency-Key for a request, which may take LEASE_MS; nil if it is one atomic step.
-- Reply  {seed}, that of the first claim, if the request is to be made; {seed, response} if it has been
--        made; 'in flight' if it is being made; 'mismatch' if another request has the key

local call, seed = redis.call, SEED
local known = call('HMGET', CLAIM, 'request', 'seed', 'answer', 'lease')
if not known[1] then
  call('HSET', CLAIM, 'request', REQUEST, 'seed', seed)
  call('PEXPIRE', CLAIM, CLAIM_MS)
elseif known[1] ~= REQUEST then
  return 'mismatch'
elseif known[3] then
  return {known[2], known[3]}
else
  seed = known[2]
end
if LEASE_MS then
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if known[4] and known[4] - now > 0 then return 'in flight' end
  call('HSET', CLAIM, 'lease', now + LEASE_MS .. '')
end
return {seed}
