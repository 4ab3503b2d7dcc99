-- ARGV: P, holder, lease (ms), then (id, token) each.
-- Returns how many messages the holder has, then the positions (from 0) of those it has no longer.
local H = P .. 'h:' .. ARGV[2]
local stale = { redis.call('HLEN', H) }
for i = 4, #ARGV, 2 do
  local mark = redis.call('HGET', H, ARGV[i])
  if not mark or string.sub(mark, 1, #ARGV[i + 1]) ~= ARGV[i + 1] then
    stale[#stale + 1] = (i - 4) / 2
  end
end
if stale[1] > 0 then
  -- Removed first: where memory is full, Redis refuses a script whose first write needs some.
  redis.call('ZREM', P .. 'l', ARGV[2])
  redis.call('ZADD', P .. 'l', math.floor(tonumber(seconds()) * 1000) + tonumber(ARGV[3]), ARGV[2])
end
return stale
