-- Says what the data set is. The first node to ask makes it; each one keeps the key alive.
-- ARGV   1 the format that the node writes  2 an epoch, if the data set is new  3 how long to keep the key
--        without a node (ms)
-- Reply  {format, epoch}; the format is the newest that any node has written

local meta = redis.call('HMGET', META, 'format', 'epoch')
local format, epoch = tonumber(meta[1] or ''), meta[2]
if not epoch then epoch = ARGV[2] end
if not format or format < tonumber(ARGV[1]) then format = tonumber(ARGV[1]) end
redis.call('HSET', META, 'format', format .. '', 'epoch', epoch)
redis.call('PEXPIRE', META, ARGV[3])
return {format, epoch}
