-- Reads a conversation.
-- ARGV   3 first createdAt  4 last createdAt (stream ids, inclusive)  5 oldest | newest first  6 count
-- Reply  {record, entries}, or nil for a session that is missing, or 'expired'

local session, record = load()
if not session then return record end
if ARGV[5] == 'oldest' then
  return {record, call('XRANGE', MESSAGES, ARGV[3], ARGV[4], 'COUNT', ARGV[6])}
end
return {record, call('XREVRANGE', MESSAGES, ARGV[4], ARGV[3], 'COUNT', ARGV[6])}
