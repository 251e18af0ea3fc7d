-- Reads a page of a conversation, a list of messages: of those after the time AFTER and before BEFORE
-- (nil: without this bound) the oldest if OLDEST_FIRST, otherwise the newest. It ends at LIMIT messages
-- or when their bytes exceed MAX_BYTES, and has at least one if there is one.
--
-- It reads 20 messages at a time, so that the reply of one command stays below about 5 MB however large
-- they are.

-- Returns how many messages of the list are older than a moment, or nil if it comes upon a damaged one. It
-- looks at those 1, 3, 7, … places from the end until one is older, and then in the middle of the rest:
-- most pages are near the end, and LINDEX takes the longer the further a place is from both ends.
local function count_older(key, moment)
  local low, high, step = 0, redis.call('LLEN', key), 1
  while low < high do
    local place = math.max(math.floor((low + high) / 2), high - step)
    local created = created_at(redis.call('LINDEX', key, place))
    if not created then return end
    if created < moment then low = place + 1 else high = place end
    step = 2 * step
  end
  return low
end

-- Returns the messages in the order in which they were read, and 1 if more follow, otherwise 0. Returns
-- nil if their place cannot be found.
local function page(key)
  local first, last = 0, redis.call('LLEN', key)
  if AFTER then first = count_older(key, AFTER + 1) end
  if BEFORE then last = count_older(key, BEFORE) end
  if not first or not last then return end
  local messages, space = {}, MAX_BYTES
  while first < last and #messages < LIMIT do
    local count = math.min(20, LIMIT - #messages, last - first)
    local start = OLDEST_FIRST and first or last - count
    local found = redis.call('LRANGE', key, start, start + count - 1)
    for n = 1, count do
      local message = found[OLDEST_FIRST and n or count + 1 - n]
      space = space - #message
      if space < 0 and #messages > 0 then return messages, 1 end
      messages[#messages + 1] = message
    end
    if OLDEST_FIRST then first = first + count else last = last - count end
  end
  return messages, first < last and 1 or 0
end
