-- The store's clock. Times are epoch milliseconds by it, durations milliseconds.

local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
