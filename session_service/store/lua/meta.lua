-- Reads what the data set is: the newest FORMAT that a node has written, and its epoch, which is
-- NEW_EPOCH if it has none yet. Keeps the key for another KEPT_MS.
-- Reply  {format, epoch}

local meta = redis.call('HMGET', META, 'format', 'epoch')
local format, epoch = tonumber(meta[1] or ''), meta[2]
if not epoch then epoch = NEW_EPOCH end
if not format or format < FORMAT then format = FORMAT end
redis.call('HSET', META, 'format', format .. '', 'epoch', epoch)
redis.call('PEXPIRE', META, KEPT_MS)
return {format, epoch}
