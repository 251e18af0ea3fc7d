-- How long a session lives (contract, "Renewal, heartbeat, timeout"). domain/timeouts.py has the same rule
-- in Python.
local function set_deadline(session)
  session.limit = session.created + session.duration
  session.expires = math.min(session.renewed + session.timeout, session.limit)
end
