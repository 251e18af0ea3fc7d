-- Returns the record of the session SESSION if there is one and it is the viewer's (viewer.lua), otherwise
-- false. The owner of a record that cannot be read is not known, so it is nobody's.
local function visible(record)
  local session, _, tail = read(record or NO_RECORD)
  return (session or tail) and belongs(session and session.tail or tail, SESSION_ID) and record
end
