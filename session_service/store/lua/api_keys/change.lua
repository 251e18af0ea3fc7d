-- Stores a record, if there is one, and gives the registry a new version, by which nodes see the change.
local function change(record)
  if record then call('HSET', API_KEYS, KEY_ID, record) end
  call('HSET', API_KEYS, 'version', time[1] .. '.' .. time[2])
  call('PEXPIRE', API_KEYS, KEPT_MS)
  return record
end
