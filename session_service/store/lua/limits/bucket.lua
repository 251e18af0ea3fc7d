-- The bucket of a limit: REQUESTS in SECONDS. It is one number, the time at which it is full again, in
-- microseconds by the store's clock. domain/rates.py has the same arithmetic in Python.
--
-- A limit never fails a request: if the bucket cannot be read, it is full and is replaced; if it cannot be
-- written, the request goes on.

local ROUNDING = 0.5  -- microseconds

-- Puts requests back, then takes up to `wanted`. Returns how many were granted, how many are left, the
-- microseconds until one more is there, and whether the bucket failed (0|1).
local function take(bucket, returned, wanted)
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local window = SECONDS * 1000000
  local interval = window / REQUESTS
  local value = redis.pcall('GET', bucket)
  local full_at = type(value) == 'string' and tonumber(value)
  local failed = (value and not full_at) and 1 or 0
  local spent = math.min(math.max((full_at or now) - now, 0), window)
  spent = math.max(spent - returned * interval, 0)
  local room = math.floor((window - spent + ROUNDING) / interval)
  local granted = math.min(wanted, room)
  local left = room - granted
  spent = spent + granted * interval
  if granted + returned > 0 then
    local text = string.format('%.0f', now + spent)
    local reply = redis.pcall('SET', bucket, text, 'PX', math.ceil(spent / 1000) + 1 .. '')
    if reply.err then failed = 1 end
  end
  return granted, left, math.max(0, math.ceil(spent - window + (left + 1) * interval)), failed
end
