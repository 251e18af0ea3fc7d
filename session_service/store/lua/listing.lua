-- Returns a session's two members of the listing, by its user and by its agent (keys.py).
local function listing_members(session_id, session)
  local age = 281474976710655 - session.created
  local floor = math.floor
  local high = floor(age / 16777216)
  local low = age - high * 16777216
  local rest = string.char(
    floor(high / 65536), floor(high / 256) % 256, high % 256,
    floor(low / 65536), floor(low / 256) % 256, low % 256
  ) .. session_id
  local by_agent = string.sub(session.tail, 1, USER_END)
  return 'u' .. string.sub(by_agent, USER_START) .. rest, 'a' .. by_agent .. rest
end
