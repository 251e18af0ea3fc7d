-- Gives the registry a new version, by which nodes see that it has changed.
local function change()
  call('HSET', WEBHOOKS, 'version', time[1] .. '.' .. time[2])
end
