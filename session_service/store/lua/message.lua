-- Returns when a message was created, or nil if it is damaged (messages.py).
local function created_at(message)
  local moment = tonumber((string.match(message, '^(%d+) [ua] ')))
  return moment and moment <= LATEST_MS and moment
end
