-- Erases a conversation whose session is over.
-- Reply  1, or 0 if none of the viewer is kept

local call = redis.call
if VIEWER then
  local participants = call('GET', PARTICIPANTS)
  if not participants or not belongs(participants) then return 0 end
end
local removed = call('DEL', PARTICIPANTS)
call('UNLINK', RETAINED)
return removed
