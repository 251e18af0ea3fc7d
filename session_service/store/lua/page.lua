-- Reads a page of a stream. It ends at ``limit`` entries or when their values exceed ``space`` bytes,
-- and has at least one entry if there is one. Returns the entries, and 1 if more follow, or 0.
--
-- It reads 20 entries at a time, so that the reply of one command stays below about 5 MB however large
-- messages are. That costs 5 % of a page of 50 small ones; 101 at once could be 25 MB.

local function page(key, first, last, order, limit, space)
  local entries, from, to, command = {}, first, last, 'XRANGE'
  if order == 'newest' then from, to, command = last, first, 'XREVRANGE' end
  while true do
    local wanted = math.min(20, limit + 1 - #entries)
    local found = redis.call(command, key, from, to, 'COUNT', wanted)
    for _, entry in ipairs(found) do
      for n = 2, #entry[2], 2 do space = space - #entry[2][n] end
      if #entries == limit or space < 0 and #entries > 0 then return entries, 1 end
      entries[#entries + 1] = entry
    end
    if #found < wanted then return entries, 0 end
    from = '(' .. entries[#entries][1]
  end
end
