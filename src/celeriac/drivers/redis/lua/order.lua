-- Writes standing orders.  ARGV: prefix, now, how many that expire are kept, then field, order, expiry.
local prefix, now, kept = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local book, line, ends = prefix .. 'oh', prefix .. 'oz', prefix .. 'oe'
-- Not a mere count: a server that comes back without its last writes must not fall behind the marks
-- that workers hold, or they would never hear of what is ordered from then on.
local seq = math.max(tonumber(redis.call('GET', prefix .. 'os') or 0), math.floor(now * 1e6))
for i = 4, #ARGV, 3 do
  seq = seq + 1
  redis.call('HSET', book, ARGV[i], ARGV[i + 1])
  redis.call('ZADD', line, string.format('%d', seq), ARGV[i])
  if tonumber(ARGV[i + 2]) > 0 then
    redis.call('ZADD', ends, ARGV[i + 2], ARGV[i])
  else
    redis.call('ZREM', ends, ARGV[i])
  end
end
redis.call('SET', prefix .. 'os', string.format('%d', seq))
local gone = redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 1000)
local over = redis.call('ZCARD', ends) - kept
if #gone < over then gone = redis.call('ZRANGE', ends, 0, over - 1) end
for _, field in ipairs(gone) do
  redis.call('HDEL', book, field)
  redis.call('ZREM', line, field)
  redis.call('ZREM', ends, field)
end
return 0
