-- ARGV: P, '', unacked, index.  Runs behind upkeep.lua, which sees to the time of grace.
local now = seconds()
if tonumber(now) * 1000 >= tonumber(redis.call('HGET', P .. 't', 'grace') or 0) then
  local ms = string.format('%.0f', tonumber(now) * 1000)
  for _, holder in ipairs(redis.call('ZRANGEBYSCORE', P .. 'cl', '-inf', ms, 'LIMIT', 0, 20)) do
    redis.call('ZREM', P .. 'cl', holder)
    lose_all(P .. 'ch:' .. holder)
  end
end
for _, queue in ipairs(redis.call('SMEMBERS', P .. 'cdq')) do
  local count = promote_celery(queue, now, 100)
  if count > 0 then
    ring(queue, count)
  end
end
