-- Stores a message, which counts as activity.
-- ARGV   3 message id  4 author, or '' for the user  5 content
--        6 metadata  7 attachments, or '' (JSON)
-- Reply  {state, clock, record, createdAt, by, renewed (0|1)}; state is live, missing, expired, or
--        stranger where the author is neither the session's user nor its agent; then nothing is stored

local id, now = ARGV[2], clock()
local state, session, record = load(now)
if state ~= 'live' then return {state, now} end
local agent, user = string.match(session.tail, '^(%S+) (%S+)')
local by = (ARGV[4] == '' or ARGV[4] == user) and 'user' or ARGV[4] == agent and 'agent'
if not by then return {'stranger', now, record} end

local created = now
local newest = call('XREVRANGE', KEYS[8], '+', '-', 'COUNT', 1)[1]
if newest then created = math.max(now, string.match(newest[1], '^%d+') + 1) end
call('XADD', KEYS[8], created .. '-0', 'id', ARGV[3], 'by', by, 'content', ARGV[5],
  'metadata', ARGV[6], 'attachments', ARGV[7])
if not newest then outlive(KEYS[8], session.limit + retention, now) end
local renewed = touch(id, session, now)
announce('message', id, session, ARGV[3] .. ' ' .. by .. ' ' .. created)
return {state, now, save(session), created, by, renewed and 1 or 0}
