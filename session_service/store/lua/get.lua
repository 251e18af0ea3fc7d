-- Reads a session. Whether it is alive is for the reader to tell, by the clock that comes with it.
-- Reply  {seconds, microseconds, record}, the record false where there is none

local time = redis.call('TIME')
return {time[1], time[2], redis.call('GET', SESSION)}
