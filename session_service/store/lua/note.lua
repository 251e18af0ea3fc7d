-- Sets aside the session of a request if its record cannot be read.
-- Reply  1 if that was not known yet, otherwise 0

local _, problem = look_up(SESSION)
if problem ~= 'unreadable' or call('ZSCORE', UNREADABLE, SESSION_ID) then return 0 end
set_aside(SESSION_ID)
return 1
