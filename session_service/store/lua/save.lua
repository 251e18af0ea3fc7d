-- Writes the record of the session SESSION. Returns it.
local function save(session)
  local active = session.active
  local record = '2 ' .. session.created .. ' ' .. active - session.created .. ' '
    .. active - session.renewed .. ' ' .. session.renewals .. ' ' .. session.timeout .. ' '
    .. session.duration .. ' ' .. session.warning .. ' ' .. session.auto .. ' ' .. session.tail
  call('SET', SESSION, record, 'PXAT', session.expires + RETENTION_MS + SPARE_MS .. '')
  return record
end
