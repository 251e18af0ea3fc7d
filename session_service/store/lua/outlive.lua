-- Keeps a key for a day longer than the moment: then its TTL need not be written each time.
local function outlive(key, moment)
  if call('PTTL', key) < moment - now then call('PEXPIREAT', key, moment + DAY_MS .. '') end
end
