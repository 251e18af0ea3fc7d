-- Stores a message, which counts as activity.
-- ARGV   3 message id  4 author, or '' for the user  5 content
--        6 metadata  7 attachments, or '' (JSON)  8 the most messages of a session, or 0
--        9 user or agent if the content is too long for the other one, otherwise ''
--        10 given if the event is to have the content
-- Reply  {record, createdAt, by, renewed (0|1)}, or as load() has it if the session is not alive;
--        {record, why} if nothing is stored: 'author' if that is neither the session's user nor its
--        agent, 'length', or 'full'
--
-- The message is written after the index and the events: if those cannot be, it is not stored.

local session, record = load()
if not session then return record end
local agent, user = string.sub(session.tail, 1, 36), string.sub(session.tail, 38, 73)
local by = (ARGV[4] == '' or ARGV[4] == user) and 'user' or ARGV[4] == agent and 'agent'
if not by then return {record, 'author'} end
if ARGV[9] ~= '' and ARGV[9] ~= by then return {record, 'length'} end

local created = now
local newest = call('XREVRANGE', MESSAGES, '+', '-', 'COUNT', 1)[1]
if newest then
  if ARGV[8] ~= '0' and call('XLEN', MESSAGES) - ARGV[8] >= 0 then return {record, 'full'} end
  created = math.max(now, string.match(newest[1], '^%d+') + 1)
end
session.active = math.max(session.active, now)
local renewed = session.auto == '1' and renew(session)
local said = ARGV[3] .. ' ' .. by .. ' ' .. created
announce('message', id, session, ARGV[10] and said .. ' ' .. ARGV[5] or said)
call('XADD', MESSAGES, created .. '-0', 'id', ARGV[3], 'by', by, 'content', ARGV[5],
  'metadata', ARGV[6], 'attachments', ARGV[7])
if not newest then outlive(MESSAGES, session.limit + retention + SPARE) end
return {save(session), created, by, renewed and 1 or 0}
