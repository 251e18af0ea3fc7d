-- Returns whether the user, with whose id members of the listing start, has less than MAX_SESSIONS sessions.
--
-- A session that has expired still counts until the sweep has acted on its expiry, which takes half a
-- second at most unless the sweep is behind. One that cannot be read counts, too.
local replaced = false  -- no session is ended to make room

local function make_room(start)
  return call('ZLEXCOUNT', LISTING, '[' .. start, '(' .. start .. LAST_BYTES) < MAX_SESSIONS
end
