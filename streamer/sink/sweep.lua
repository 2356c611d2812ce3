-- Deletes documents that were not met in their partition's pass: the topic doesn't have them any more.
--
-- KEYS: of each its document and its fence. ARGV: '1' if documents without a fence go too; then partitions,
--   each with its pass. Returns how many were deleted.
local passes, deleted = {}, 0
for i = 2, #ARGV, 2 do
  passes[tonumber(ARGV[i])] = tonumber(ARGV[i + 1])
end
for i = 1, #KEYS, 2 do
  local known = redis.call('GET', KEYS[i + 1])
  local goes = ARGV[1] == '1'
  if known then
    known = cmsgpack.unpack(known)
    local pass = passes[known[1]]
    goes = pass and known[3] < pass
  end
  if goes then
    deleted = deleted + redis.call('DEL', KEYS[i])
    redis.call('DEL', KEYS[i + 1])
  end
end
return deleted
