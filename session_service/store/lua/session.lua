-- A session's record, whose form is in records.py: read and written.

-- How much longer than they matter keys are kept: a deadline is still acted on after no node has run
-- for a week. It is also the longest that an event can be kept (MAX_RETENTION_MS, domain/events.py).
local SPARE = 604800000
-- The last millisecond of the year 9999: a record with a later deadline is damaged.
local LATEST = 253402300799999

-- Works out the deadline; the one place where its rule stands (contract, "Renewal, heartbeat, timeout").
local function settle(session)
  session.limit = session.created + session.duration
  session.expires = math.min(session.renewed + session.timeout, session.limit)
end

-- Returns the session in a record, alive or not. Otherwise returns nil, then the deadline if the sweep
-- found the session expired, or nil if the record is damaged or of another format. Numbers stay text,
-- which arithmetic takes too. The bytes that are checked (newline, space, brace) end and part the tail.
local function read(record)
  local created, active, renewed, renewals, timeout, duration, warning, auto, start =
    string.match(record, '^1 (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) ([01]) ()')
  local byte = string.byte
  if not created or byte(record, -1) ~= 10 or byte(record, start + 36) ~= 32
    or byte(record, start + 73) ~= 32 or byte(record, start + 74) ~= 123 then
    return nil, string.match(record, '^1 expired (%d+)\n$')
  end
  local session = {
    created = created, active = active, renewed = renewed, renewals = renewals,
    timeout = timeout, duration = duration, warning = warning, auto = auto,
    tail = string.sub(record, start), limit = 0, expires = 0,
  }
  settle(session)
  if session.limit > LATEST then return end
  return session
end

-- Returns the session if it is alive, and its record. Otherwise returns false, then what to reply:
-- false if it is missing, 'expired <deadline>', or 'unreadable'.
local function load()
  local record = call('GET', SESSION)
  if not record then return false, false end
  local session, deadline = read(record)
  if session then
    if session.expires > now then return session, record end
    if session.expires + retention <= now then return false, false end
    deadline = session.expires
  end
  return false, deadline and 'expired ' .. deadline or 'unreadable'
end

local function save(session)
  local record = '1 ' .. session.created .. ' ' .. session.active .. ' ' .. session.renewed .. ' '
    .. session.renewals .. ' ' .. session.timeout .. ' ' .. session.duration .. ' '
    .. session.warning .. ' ' .. session.auto .. ' ' .. session.tail
  call('SET', SESSION, record, 'PXAT', session.expires + retention + SPARE .. '')
  return record
end
