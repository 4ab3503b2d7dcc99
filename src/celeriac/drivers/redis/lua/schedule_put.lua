-- ARGV: P, scope, then (name, version, next_at, spec, from_code, paused, last_at, runs) each.
-- Returns the positions (from 0) of those left out.
local E, D, refused = P .. 'e:' .. ARGV[2] .. ':', P .. 'ed:' .. ARGV[2], {}
for i = 3, #ARGV, 8 do
  local name = ARGV[i]
  local key = E .. name
  local version = redis.call('HGET', key, 'v') or '0'
  if version == ARGV[i + 1] then
    redis.call('HSET', key, 'v', redis.call('INCR', P .. 'ev'), 'at', ARGV[i + 2], 'spec', ARGV[i + 3],
      'code', ARGV[i + 4], 'paused', ARGV[i + 5], 'last', ARGV[i + 6], 'runs', ARGV[i + 7])
    redis.call('HDEL', key, 'owner', 'until', 'claims')
    redis.call('SADD', P .. 'en:' .. ARGV[2], name)
    if ARGV[i + 2] == '' then
      redis.call('ZREM', D, name)
    else
      redis.call('ZADD', D, ARGV[i + 2], name)
    end
  else
    refused[#refused + 1] = (i - 3) / 8
  end
end
return refused
