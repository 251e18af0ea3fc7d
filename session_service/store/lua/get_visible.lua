-- Reads a session of the viewer.
-- Reply  as that of get.lua

local record = visible(call('GET', SESSION))
return record and now .. ' ' .. record or now .. ''
