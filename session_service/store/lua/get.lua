-- Reads a session. The caller decides whether it is alive, by the clock that comes with it.
-- Reply  the clock, and if there is a record a space and the record

local record = call('GET', SESSION)
return record and now .. ' ' .. record or now .. ''
