-- The shards of a call: SESSION is how the keys of the first one begin, and SHARDS has the two digits of
-- each, e.g. '3f40'. Valkey takes twice as long for a call with a name for each key, and with a million
-- sessions three times.
local before_shard = string.sub(SESSION, 1, -#'3f}:' - 1)

-- Returns how the keys of a shard begin, by the place of its digits.
local function keys_of(place) return before_shard .. string.sub(SHARDS, place, place + 1) .. '}:' end
