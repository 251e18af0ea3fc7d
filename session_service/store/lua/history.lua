-- Reads a conversation.
-- ARGV   3 first createdAt  4 last createdAt (stream ids, inclusive)  5 oldest | newest first  6 count
-- Reply  {state, clock, record, entries}; state is live, missing or expired

local now = clock()
local state, _, record = load(now)
if state ~= 'live' then return {state, now} end
local entries
if ARGV[5] == 'oldest' then
  entries = call('XRANGE', KEYS[8], ARGV[3], ARGV[4], 'COUNT', ARGV[6])
else
  entries = call('XREVRANGE', KEYS[8], ARGV[4], ARGV[3], 'COUNT', ARGV[6])
end
return {state, now, record, entries}
