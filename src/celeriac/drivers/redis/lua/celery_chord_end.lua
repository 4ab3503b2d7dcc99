-- ARGV: P, holder, unacked, index, then of the group: parts, difference, size (keys), how many
-- records, and how many messages; then those.  Done once for a group.
if redis.call('DEL', ARGV[7]) == 1 then
  redis.call('DEL', ARGV[5], ARGV[6])
  local at, records = 10, tonumber(ARGV[8])
  for n = 0, records - 1 do
    record(at + n * 8)
  end
  put(at + records * 8, tonumber(ARGV[9]))
end
