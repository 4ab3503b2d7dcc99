-- ARGV: P, holder, unacked, index, tag, then of the group: parts, difference, size (keys), the place
-- of this part, the part.  Returns all parts in their order where this was the last one missing.
local parts = ARGV[6]
if redis.call('HEXISTS', H, ARGV[5]) == 0 then
  return {}
end
redis.call('ZADD', parts, ARGV[9], ARGV[10])
-- Celery says how many there are only when it sends the last one, which no other can be behind.
local size, lives = redis.call('GET', ARGV[8]), redis.call('PTTL', ARGV[8])
redis.call('PEXPIRE', parts, lives > 0 and lives or 86400000)
if not size or redis.call('ZCARD', parts) < tonumber(size) + tonumber(redis.call('GET', ARGV[7]) or 0) then
  return {}
end
return redis.call('ZRANGE', parts, 0, -1)
