-- A session's record, whose form is told in records.py: read, and written.

-- How much longer than they matter keys are kept: a deadline is still acted on after no node has run
-- for a week. It is also the longest that an event can be kept (MAX_RETENTION_MS, domain/events.py).
local SPARE = 604800000

-- Works out the deadline; the one place where its rule stands (contract, "Renewal, heartbeat, timeout").
local function settle(session)
  session.limit = session.created + session.duration
  session.expires = math.min(session.renewed + session.timeout, session.limit)
end

-- Returns the session in a record, alive or not; nothing where the record is 'expired', which the
-- sweep leaves. Numbers are left as they are written, which arithmetic takes too.
local function read(record)
  local created, active, renewed, renewals, timeout, duration, warning, auto, tail =
    string.match(record, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) ([01]) (.*)$')
  if not created then return end
  local session = {
    created = created, active = active, renewed = renewed, renewals = renewals,
    timeout = timeout, duration = duration, warning = warning, auto = auto, tail = tail,
    limit = 0, expires = 0,
  }
  settle(session)
  return session
end

-- Returns the session if it is alive, and its record; otherwise what to reply: false for one that is
-- missing, or 'expired'.
local function load()
  local record = call('GET', SESSION)
  if not record then return false, false end
  local session = read(record)
  if not session then return false, 'expired' end
  if session.expires <= now then
    return false, session.expires + retention > now and 'expired'
  end
  return session, record
end

local function save(session)
  local record = session.created .. ' ' .. session.active .. ' ' .. session.renewed .. ' '
    .. session.renewals .. ' ' .. session.timeout .. ' ' .. session.duration .. ' '
    .. session.warning .. ' ' .. session.auto .. ' ' .. session.tail
  call('SET', SESSION, record, 'PXAT', session.expires + retention + SPARE .. '')
  return record
end
