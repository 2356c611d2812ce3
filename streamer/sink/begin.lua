-- Begins to read a partition from its first record, in a new pass: what is not met in it is swept at its end.
--
-- KEYS: the position. ARGV: expected offset or '', first offset, offset at which the pass ends, pass, layout.
-- Returns the position's fields. Where its offset isn't the expected one, nothing is changed.
if (redis.call('HGET', KEYS[1], 'offset') or '') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'offset', ARGV[2], 'until', ARGV[3], 'pass', ARGV[4], 'at_end', ARGV[4], 'layout', ARGV[5])
end
return redis.call('HGETALL', KEYS[1])
