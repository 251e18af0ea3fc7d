-- Stores a message, which counts as activity. Without AUTHOR_ID it is the user's.
-- Reply  the record, createdAt, by, renewed (0|1), or as load() has it if the session is not alive;
--        'unreadable' if the newest message is damaged; the record and why, if nothing is stored: 'author'
--        if AUTHOR_ID is neither the session's user nor its agent, 'length' if the content is too long for
--        its author, or 'full'
--
-- The message is written after the index and the events: if those cannot be, it is not stored.

local session, record = load()
if not session then return record end
local agent = string.sub(session.tail, 1, ID_LENGTH)
local user = string.sub(session.tail, USER_START, USER_END)
local by = (not AUTHOR_ID or AUTHOR_ID == user) and 'user' or AUTHOR_ID == agent and 'agent'
if not by then return record .. 'author' end
if by == 'agent' and not MAY_BE_AGENT then return record .. 'agent' end
if FITS_ONLY and FITS_ONLY ~= by then return record .. 'length' end

local created = now
local newest = call('LINDEX', MESSAGES, -1)
if newest then
  if MAX_MESSAGES > 0 and call('LLEN', MESSAGES) >= MAX_MESSAGES then return record .. 'full' end
  local before = created_at(newest)
  if not before then return 'unreadable' end
  created = math.max(now, before + 1)
end
session.active = math.max(session.active, now)
local renewed = session.auto == '1' and renew(session)
local detail = MESSAGE_ID .. ' ' .. by .. ' ' .. created
if CONTENT_BYTES then detail = detail .. ' ' .. string.sub(MESSAGE, -CONTENT_BYTES) end
announce('message', SESSION_ID, session, detail)
call('RPUSH', MESSAGES, created .. ' ' .. string.sub(by, 1, 1) .. ' ' .. MESSAGE)
if not newest then outlive_session(MESSAGES, session) end
return save(session) .. created .. ' ' .. by .. ' ' .. (renewed and 1 or 0)
