-- Notes that a request met a session whose record cannot be read.
-- Reply  1 if that was not known yet, otherwise 0

local _, why = look_up(SESSION)
if why ~= 'unreadable' or call('ZSCORE', UNREADABLE, id) then return 0 end
set_aside(id)
return 1
