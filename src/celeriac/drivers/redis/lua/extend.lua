-- ARGV: P, holder, lease (ms), then (id, token) each.
-- Returns the positions (from 0) of those that are not the holder's any more.
local H = P .. 'h:' .. ARGV[2]
local stale = {}
for i = 4, #ARGV, 2 do
  local mark = redis.call('HGET', H, ARGV[i])
  if not mark or string.sub(mark, 1, #ARGV[i + 1]) ~= ARGV[i + 1] then
    stale[#stale + 1] = (i - 4) / 2
  end
end
if redis.call('EXISTS', H) == 1 then
  -- Removed first: where memory is full, Redis refuses a script whose first write needs some.
  redis.call('ZREM', P .. 'l', ARGV[2])
  redis.call('ZADD', P .. 'l', math.floor(tonumber(seconds()) * 1000) + tonumber(ARGV[3]), ARGV[2])
end
return stale
