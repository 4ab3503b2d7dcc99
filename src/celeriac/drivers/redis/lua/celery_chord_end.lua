-- ARGV: P, holder, unacked, index, then of the group: parts, difference, size (keys), how many
-- records, and how many messages; then those.  Done once for a group.
local at = 10 + tonumber(ARGV[8]) * 8
local wrong = refused(at, tonumber(ARGV[9]))
if wrong then
  return no_list(wrong)
end
if redis.call('DEL', ARGV[7]) == 1 then
  redis.call('DEL', ARGV[5], ARGV[6])
  for n = 10, at - 1, 8 do
    record(n)
  end
  put(at, tonumber(ARGV[9]))
end
