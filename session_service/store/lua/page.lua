-- Reads a page of a stream: the entries from FIRST to LAST, which are stream ids, - or +, the oldest
-- first if OLDEST_FIRST. It ends at LIMIT entries or when their values exceed MAX_BYTES, and has at
-- least one entry if there is one. Returns the entries, and 1 if more follow, otherwise 0.
--
-- It reads 20 entries at a time, so that the reply of one command stays below about 5 MB however large
-- messages are. That costs 5 % of a page of 50 small ones; 101 at once could be 25 MB.

local function page(key)
  local entries, space, from, to, command = {}, MAX_BYTES, FIRST, LAST, 'XRANGE'
  if not OLDEST_FIRST then from, to, command = LAST, FIRST, 'XREVRANGE' end
  while true do
    local count = math.min(20, LIMIT + 1 - #entries)
    local found = redis.call(command, key, from, to, 'COUNT', count)
    for _, entry in ipairs(found) do
      for n = 2, #entry[2], 2 do space = space - #entry[2][n] end
      if #entries == LIMIT or space < 0 and #entries > 0 then return entries, 1 end
      entries[#entries + 1] = entry
    end
    if #found < count then return entries, 0 end
    from = '(' .. entries[#entries][1]
  end
end
