-- Erases a conversation whose session is over.
-- Reply  what DEL removed: 1, or 0 where none is kept

local removed = redis.call('DEL', PARTIES)
redis.call('UNLINK', KEPT)
return removed
