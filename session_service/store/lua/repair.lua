-- Removes the index entries of sessions whose records are gone: of those whose members of the listing
-- start with START, after the member AFTER, LIMIT of them; and with the last part those of LOST_IDS. A
-- record that exists, readable or not, keeps its entries. A member by agent names the member by user.
-- The entries of LOST_IDS go last, so that a sweep whose repair was interrupted begins it again.
-- Reply  {members of the listing that were removed, the one that was checked last, or '' at the end;
--        1 if as many sessions have a deadline as are listed, or 0}

local call = redis.call

-- Removes the entries of a session, without those of the listing, if its record is gone.
local function forget(session_id)
  local name = id_text(session_id)
  if call('EXISTS', SESSION .. name) == 1 then return false end
  call('ZREM', WARN, session_id)
  call('ZREM', EXPIRE, session_id)
  call('ZREM', UNREADABLE, session_id)
  call('UNLINK', MESSAGES .. name)
  return true
end

local first = AFTER == '' and '[' .. START or '(' .. AFTER
local found = call('ZRANGEBYLEX', LISTING, first, '(' .. START .. LAST_BYTES, 'LIMIT', 0, LIMIT)
local names, removed = {}, 0
for n, member in ipairs(found) do names[n] = SESSION .. id_text(string.sub(member, -ID_LENGTH)) end
if #names > 0 and call('EXISTS', unpack(names)) < #names then
  for _, member in ipairs(found) do
    if forget(string.sub(member, -ID_LENGTH)) then
      local by_user = 'u' .. string.sub(member, 2 + ID_LENGTH)
      removed = removed + call('ZREM', LISTING, member, by_user)
    end
  end
end
if #found == LIMIT then return {removed, found[LIMIT], 0} end
for _, session_id in ipairs(LOST_IDS) do forget(session_id) end
local deadlines = call('ZCARD', WARN) + call('ZCARD', EXPIRE)
return {removed, '', call('ZCARD', LISTING) == 2 * deadlines and 1 or 0}
