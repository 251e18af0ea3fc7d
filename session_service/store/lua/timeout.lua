-- Changes a session's timeout. An argument that is nil leaves its value as it is.
-- Reply  the record and the clock, or as load() has it if the session is not alive; also why, if
--        nothing is changed: 'conflict' if the values would contradict each other, 'past' if the
--        deadline would be in the past

local session, record = load()
if not session then return record end
session.timeout = TIMEOUT_MS or session.timeout
session.duration = MAX_DURATION_MS or session.duration
session.warning = WARNING_MS or session.warning
if AUTO_RENEW ~= nil then session.auto = AUTO_RENEW and '1' or '0' end
if session.duration - session.timeout < 0 or session.timeout - session.warning < 0 then
  return record .. now .. ' conflict'
end
set_deadline(session)
if session.expires <= now then return record .. now .. ' past' end
schedule(SESSION_ID, session)
call('ZREM', EXPIRE, SESSION_ID)
announce_update(session, 'timeout')
outlive_session(LISTING, session)
outlive_session(EVENTS, session)
if call('EXISTS', MESSAGES) == 1 then outlive_session(MESSAGES, session) end
return save(session) .. now
