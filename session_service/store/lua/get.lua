-- Reads a session. The caller decides whether it is alive, by the clock that comes with it.
-- Reply  {seconds, microseconds, record}; the record is false if there is none

local time = redis.call('TIME')
return {time[1], time[2], redis.call('GET', SESSION)}
