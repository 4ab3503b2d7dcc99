-- ARGV: P, holder, unacked, index, lease (ms), tags...
-- Returns how many tags the holder has, then the positions (from 0) of those it has no longer.
local until_ms = math.floor(tonumber(seconds()) * 1000) + tonumber(ARGV[5])
local stale, score = { redis.call('HLEN', H) }, string.format('%.3f', until_ms / 1000)
for i = 6, #ARGV do
  if redis.call('HEXISTS', H, ARGV[i]) == 0 then
    stale[#stale + 1] = i - 6
  elseif redis.call('ZREM', INDEX, ARGV[i]) == 1 then
    -- Removed first: where memory is full, Redis refuses a script whose first write needs some.
    redis.call('ZADD', INDEX, score, ARGV[i])
  end
end
if stale[1] > 0 then
  redis.call('ZREM', P .. 'cl', ARGV[2])
  redis.call('ZADD', P .. 'cl', until_ms, ARGV[2])
end
return stale
