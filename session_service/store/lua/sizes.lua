-- A shard's sizes, which are known at any number of sessions. They are the reply (count.lua) unless
-- something is due that the sweep has not come to; that would stand in front.

local start = ARGV[3]
local near = call('ZCARD', EXPIRE)
local active = call('ZCARD', WARN) + near
local expired = call('ZCARD', FORGET)
local matching = active
if start ~= '' then  -- no member has a byte above ~
  matching = call('ZLEXCOUNT', LISTING, '[' .. start, '(' .. start .. '~')
end
local is_due = false
for _, key in ipairs({WARN, EXPIRE, FORGET}) do
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  is_due = is_due or first and first - now <= 0
end
if not is_due then return {active, near, expired, matching, 0} end
