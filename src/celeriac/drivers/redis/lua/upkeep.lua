-- ARGV: P, least pause, gap, grace (ms), who asks, names of queues that are always kept.
-- Returns how many holders were given up; -1 where somebody else has just looked.
local now = math.floor(tonumber(seconds()) * 1000)
local tick, grace, by = unpack(redis.call('HMGET', P .. 't', 'tick', 'grace', 'by'))
local passed = tick and now - tonumber(tick)
if passed and passed >= 0 and passed < tonumber(ARGV[2]) then
  return by == ARGV[5] and 0 or -1
end
grace = tonumber(grace or 0)
if passed and (passed < 0 or passed > tonumber(ARGV[3])) then
  -- The server was away, or nobody was there: who lives must have time to renew.
  grace = now + tonumber(ARGV[4])
end
if passed and passed < 0 then
  -- The clock went back: by it, what dead workers had would be theirs for so much longer.
  for _, kind in ipairs({ 'l', 'cl' }) do
    local ends = redis.call('ZRANGE', P .. kind, 0, -1, 'WITHSCORES')
    for n = 1, #ends, 2 do
      redis.call('ZADD', P .. kind, string.format('%.0f', tonumber(ends[n + 1]) + passed), ends[n])
    end
  end
end
redis.call('HSET', P .. 't', 'tick', now, 'grace', grace, 'by', ARGV[5])

local given_up = 0
if now >= grace then
  for _, holder in ipairs(redis.call('ZRANGEBYSCORE', P .. 'l', '-inf', now, 'LIMIT', 0, 20)) do
    local ids = redis.call('HKEYS', P .. 'h:' .. holder)
    redis.call('DEL', P .. 'h:' .. holder)
    redis.call('ZREM', P .. 'l', holder)
    for _, id in ipairs(ids) do
      lose(id)
    end
    given_up = given_up + 1
  end
end
local due = string.format('%.3f', now / 1000)
for _, queue in ipairs(redis.call('SMEMBERS', P .. 'dq')) do
  local count = promote(queue, due, 500)
  if redis.call('EXISTS', P .. 'd:' .. queue) == 0 then
    redis.call('SREM', P .. 'dq', queue)
  end
  if count > 0 then
    ring(queue, count)
  end
end

-- Names of queues are kept for those who count.  Where programs make up new ones all the time, those of
-- empty queues are forgotten; they are noted again with the next message.
if redis.call('SCARD', P .. 'queues') > tonumber(ARGV[6]) then
  for _, queue in ipairs(redis.call('SRANDMEMBER', P .. 'queues', 50)) do
    local keys = {}
    for priority = 0, 9 do
      keys[#keys + 1] = P .. 'r:' .. priority .. ':' .. queue
    end
    for _, kind in ipairs({ 's:', 'd:', 'cs:', 'cd:', 'quarantine:' }) do
      keys[#keys + 1] = P .. kind .. queue
    end
    if redis.call('EXISTS', unpack(keys)) == 0 then
      redis.call('SREM', P .. 'queues', queue)
    end
  end
end
return given_up
