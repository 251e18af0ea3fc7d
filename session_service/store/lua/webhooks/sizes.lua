-- Counts what is in the queue.
-- Reply  {to be delivered, parked, dropped in all}

return {
  redis.call('ZCARD', QUEUE), redis.call('ZCARD', DEAD),
  tonumber(redis.call('HGET', STATE, 'dropped') or 0),
}
