-- Applies records of one partition, in their order, and moves the partition's position with them.
--
-- KEYS: the position; then of each record its document and its fence.
-- ARGV: expected offset, next offset, partition, now, time at the end or '', read, bad, stale, how long a
--   marker is kept, layout; then of each record its offset, age, when it expires, how many fields, the fields.
--   A record without fields is a tombstone. Times are ms.
-- Returns the position's fields. Where its offset isn't the expected one, nothing is applied.
local position = redis.call('HMGET', KEYS[1], 'offset', 'pass')
if position[1] ~= ARGV[1] then
  return redis.call('HGETALL', KEYS[1])
end
local partition, now, layout = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[10]
local pass = tonumber(position[2])
-- First, for a full server refuses a script's first write and none after it.
redis.call('HSET', KEYS[1], 'offset', ARGV[2])
local written, deleted, stale = 0, 0, tonumber(ARGV[8])
local at = 11
for i = 2, #KEYS, 2 do
  local document, fence = KEYS[i], KEYS[i + 1]
  local offset, age, expires, count = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local first, last = at + 4, at + 3 + count
  at = last + 1
  local known = redis.call('GET', fence)
  if known then
    known = cmsgpack.unpack(known)
  end
  local is_same = known and known[1] == partition
  -- Not met in this pass, and the pass is beyond it: compaction has taken it away.
  local is_gone = is_same and known[3] < pass
  if is_same and offset < known[2] then
    stale = stale + 1 -- it was applied before: the topic is being read again
  elseif count == 0 then
    if known and not is_same then
      stale = stale + 1 -- it answers an erasure for another partition's records
    else
      redis.call('DEL', document)
      redis.call('SET', fence, cmsgpack.pack({partition, offset, pass, true, ''}), 'PX', ARGV[9])
      deleted = deleted + 1
    end
  elseif known and not known[4] and not is_gone and age < known[5] then
    stale = stale + 1
  elseif expires <= now then
    redis.call('DEL', document, fence)
    stale = stale + 1
  else
    redis.call('DEL', document)
    if layout == 'json' then
      redis.call('SET', document, ARGV[first])
    else
      redis.call('HSET', document, unpack(ARGV, first, last))
    end
    redis.call('PEXPIREAT', document, expires)
    redis.call('SET', fence, cmsgpack.pack({partition, offset, pass, false, age}), 'PXAT', expires)
    written = written + 1
  end
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'at_end', ARGV[5])
end
for name, count in pairs({read = tonumber(ARGV[6]), bad = tonumber(ARGV[7]), written = written, deleted = deleted, stale = stale}) do
  redis.call('HINCRBY', KEYS[1], name, count)
end
return redis.call('HGETALL', KEYS[1])
