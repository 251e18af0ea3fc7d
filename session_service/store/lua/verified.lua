-- Reads after which evictions the indexes were verified.
-- Reply  {evictions, or '' if they never were; 1 if a verification has begun that did not end}

local verified = redis.call('HMGET', VERIFIED, 'evictions', 'until')
return {verified[1] or '', verified[2] and 1 or 0}
