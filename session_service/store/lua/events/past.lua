-- The past of a shard's outbox: one string, in the key "trimmed" (events/past.py).
--   <epoch> <mark> <gone> <from> <to>, e.g. 1764000000.123456 1764000000123 1764000000123 0 0
-- epoch: made with the data set, so that another data set is noticed. mark: when a node last saw it,
-- about. gone: events before this moment may be missing. from, to: a position after "from" and up to "to"
-- is doubtful, because the clock went back or no node saw the data set meanwhile; 0 0 if none is.
-- All but the epoch are epoch milliseconds by the store's clock.

-- Returns the past of a shard. If there is none, it begins now.
local function past_of(key)
  local value = call('GET', key) or ''
  local epoch, mark, gone, from, to = string.match(value, '^(%S+) (%d+) (%d+) (%d+) (%d+)$')
  if not epoch then
    return {epoch = time[1] .. '.' .. time[2], mark = now, gone = now, from = 0, to = 0, before = ''}
  end
  return {
    epoch = epoch, mark = tonumber(mark), gone = tonumber(gone), from = tonumber(from), to = tonumber(to),
    before = value,
  }
end

local function doubt(past, from, to)
  if past.to > 0 then from, to = math.min(past.from, from), math.max(past.to, to) end
  past.from, past.to = math.max(from, 0), to
end

-- Writes a past if it has changed, and returns its text.
local function keep(key, past, ttl)
  if past.to < past.gone then past.from, past.to = 0, 0 end
  local value = string.format('%s %.0f %.0f %.0f %.0f', past.epoch, past.mark, past.gone, past.from, past.to)
  if value ~= past.before then call('SET', key, value, 'PX', ttl) end
  return value
end
