-- Collects the live sessions of a page of a listing.

local space = MAX_BYTES
local unreadable = {}
local reply = {now, unreadable}  -- then the id and the record of each session

-- Adds a session if it is alive; `keys` is how the keys of its shard begin. Returns whether the page is full: the records exceed MAX_BYTES. It has
-- at least two sessions then, so that the caller sees whether more follow the last that fits.
local function add(keys, session_id)
  local session, record = look_up(keys .. id_text(session_id))
  if session and session.expires > now then
    reply[#reply + 1] = session_id
    reply[#reply + 1] = record
    space = space - #record
  elseif record == 'unreadable' then
    unreadable[#unreadable + 1] = session_id
  end
  return space < 0 and #reply > 4
end
