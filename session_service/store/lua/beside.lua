-- Reads the session of an entry of warn or expire, by the shard's key of warn. The keys of sessions begin
-- as that one does. They are not among the keys of the call because Valkey fetches all of those, and a
-- count rarely needs a session.
local function look_up_beside(warn, session_id)
  return look_up(string.sub(warn, 1, -#'warn' - 1) .. id_text(session_id))
end
