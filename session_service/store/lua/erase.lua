-- Erases a conversation whose session is over.
-- Reply  1, or 0 if none is kept

local removed = redis.call('DEL', PARTICIPANTS)
redis.call('UNLINK', RETAINED)
return removed
