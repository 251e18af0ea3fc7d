-- Reads those of the sessions SESSION_IDS that are alive, up to the one with which their records exceed
-- MAX_BYTES, and at least two.
-- Reply  as that of list.lua

for _, session_id in ipairs(SESSION_IDS) do
  if add(SESSION, session_id) then return reply end
end
return reply
