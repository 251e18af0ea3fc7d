-- Tries each command that the scripts use, in a way that leaves nothing behind: Redis 6.2 and 7.0 do not
-- say which command of a script was refused. Permission is checked first; then nearly all commands find
-- no key, or are refused for their arguments.
-- Before that, tries a write: within a script, a server checks only the first one for its own state.
-- Reply  {the error of the write or '', and the commands that the user may not run}, for example
--        {'OOM command not allowed …', 'TIME', 'XGROUP CREATE'}

local written = redis.pcall('SET', PROBE, 'x', 'NX', 'PX', 1000)
redis.pcall('UNLINK', PROBE)
local refusal = type(written) == 'table' and written.err or ''

local tried = {
  {'DEL', PROBE},
  {'EXISTS', PROBE},
  {'GET', PROBE},
  {'HDEL', PROBE, 'f'},
  {'HEXISTS', PROBE, 'f'},
  {'HGET', PROBE, 'f'},
  {'HGETALL', PROBE},
  {'HINCRBY', PROBE, 'f', 'x'},
  {'HLEN', PROBE},
  {'HMGET', PROBE, 'f'},
  {'HSET', PROBE, 'f', 'v', 'f'},
  {'LINDEX', PROBE, 0},
  {'LLEN', PROBE},
  {'LRANGE', PROBE, 0, 0},
  {'PEXPIRE', PROBE, 1},
  {'PEXPIREAT', PROBE, 1},
  {'PTTL', PROBE},
  {'RENAME', PROBE, PROBE},
  {'TIME'},
  {'XACK', PROBE, 'g', '0-1'},
  {'XADD', PROBE, 'NOMKSTREAM', '*', 'f', 'v'},
  {'XCLAIM', PROBE, 'g', 'c', 0, '0-1'},
  {'XGROUP', 'CREATE', PROBE, 'g', '$'},
  {'XGROUP', 'DESTROY', PROBE, 'g'},
  {'XLEN', PROBE},
  {'XPENDING', PROBE, 'g'},
  {'XRANGE', PROBE, '-', '+'},
  {'XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', PROBE, '>'},
  {'XREVRANGE', PROBE, '+', '-'},
  {'XTRIM', PROBE, 'MAXLEN', 0},
  {'ZADD', PROBE, 'XX', 0, 'm'},
  {'ZCARD', PROBE},
  {'ZCOUNT', PROBE, 0, 0},
  {'ZLEXCOUNT', PROBE, '-', '+'},
  {'ZRANGE', PROBE, 0, 0},
  {'ZRANGEBYLEX', PROBE, '-', '+'},
  {'ZRANGEBYSCORE', PROBE, 0, 0},
  {'ZREM', PROBE, 'm'},
  {'ZREMRANGEBYRANK', PROBE, 0, 0},
  {'ZREVRANGEBYLEX', PROBE, '+', '-'},
  {'ZREVRANGEBYSCORE', PROBE, 0, 0},
  {'ZSCORE', PROBE, 'm'},
  -- These would create a key, but fail on one that holds a text.
  {'SET', PROBE, 'x', 'NX', 'PX', 1000},
  {'HSETNX', PROBE, 'f', 'v'},
  {'INCR', PROBE},
  {'RPUSH', PROBE, 'x'},
  {'UNLINK', PROBE},
}

local needs_text = {['HSETNX'] = true, ['INCR'] = true, ['RPUSH'] = true}
local missing = {}
for _, words in ipairs(tried) do
  if not (needs_text[words[1]] and missing[#missing] == 'SET') then
    local reply = redis.pcall(unpack(words))
    -- "can't run this command or subcommand", "no permissions to run the 'get' command"
    if type(reply) == 'table' and reply.err and string.find(reply.err, ' run th[ie]') then
      missing[#missing + 1] = words[1] == 'XGROUP' and words[1] .. ' ' .. words[2] or words[1]
    end
  end
end
return {refusal, unpack(missing)}
