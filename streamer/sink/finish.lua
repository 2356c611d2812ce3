-- Ends a pass. KEYS: the position. ARGV: the pass. Returns the position's fields.
if redis.call('HGET', KEYS[1], 'pass') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'until')
end
return redis.call('HGETALL', KEYS[1])
