-- Claims an Idempotency-Key for a request, or tells what has become of that.
-- ARGV   1 fingerprint of the request  2 seed  3 how long the request may take, or '' where it is
--        one atomic step (ms)
-- Reply  {seed}, the first claim's, where the request is to be made; {seed, answer} where it has been;
--        'mismatch' where another one has the key; 'in flight' where it is being made

local KEPT = 86400000
local call, request, seed, may_take = redis.call, ARGV[1], ARGV[2], ARGV[3]
local known = call('HMGET', CLAIM, 'request', 'seed', 'answer', 'lease')
if not known[1] then
  call('HSET', CLAIM, 'request', request, 'seed', seed)
  call('PEXPIRE', CLAIM, KEPT)
elseif known[1] ~= request then
  return 'mismatch'
elseif known[3] then
  return {known[2], known[3]}
else
  seed = known[2]
end
if may_take ~= '' then
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if known[4] and known[4] - now > 0 then return 'in flight' end
  call('HSET', CLAIM, 'lease', now + may_take .. '')
end
return {seed}
