-- Replaces the secret of a webhook. The previous one is in the new JSON; it is used until the overlap
-- is over.
-- ARGV   1 id  2 the JSON that is replaced  3 the new JSON  4 how long the overlap is (ms)
-- Reply  when the overlap is over; nil if the webhook was changed or removed meanwhile

local on, created, json = string.match(call('HGET', WEBHOOKS, ARGV[1]) or '', '^(%d) (%d+)[ %d]* ({.*)$')
if json ~= ARGV[2] then return false end
local overlap_until = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4]
call('HSET', WEBHOOKS, ARGV[1], on .. ' ' .. created .. ' ' .. overlap_until .. ' ' .. ARGV[3])
change()
return overlap_until
