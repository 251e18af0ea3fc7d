-- Counts the deliveries of a queue.
-- Reply  {to be made, parked, dropped in all}

return {
  redis.call('ZCARD', QUEUE), redis.call('ZCARD', DEAD),
  tonumber(redis.call('HGET', STATE, 'dropped') or 0),
}
