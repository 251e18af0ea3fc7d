-- Registers a webhook, or changes it, which switches it on and ends the overlap of its secrets.
-- ARGV   1 id  2 JSON  3 how many there may be  4 for how long they are kept (ms)
-- Reply  createdAt, or nil if there are as many as there may be

local before = call('HGET', WEBHOOKS, ARGV[1])
if not before then
  local others = call('HEXISTS', WEBHOOKS, 'version') + call('HEXISTS', WEBHOOKS, 'settings')
  if call('HLEN', WEBHOOKS) - others >= tonumber(ARGV[3]) then return false end
end
local created = before and string.match(before, '^%d (%d+)')
  or time[1] * 1000 + math.floor(time[2] / 1000) .. ''
local record = '1 ' .. created .. ' ' .. ARGV[2]
if record ~= before then
  call('HSET', WEBHOOKS, ARGV[1], record)
  change()
end
call('PEXPIRE', WEBHOOKS, ARGV[4])
return created
