-- A new version with each change, by which readers know that there was one.

local call = redis.call
local time = call('TIME')
local function change()
  call('HSET', WEBHOOKS, 'version', time[1] .. '.' .. time[2])
end
