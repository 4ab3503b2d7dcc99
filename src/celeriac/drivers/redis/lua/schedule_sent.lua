-- ARGV: P, scope, then for each tick: name, version, next_at, last_at, runs, count, and count times
-- (id, lane, due, value).  Returns the positions (from 0) of the entries that were moved.
local i, position = 3, 0
while i <= #ARGV do
  local wrong = refused(i + 6, tonumber(ARGV[i + 5]))
  if wrong then
    return no_list(wrong)
  end
  i = i + 6 + tonumber(ARGV[i + 5]) * 4
end

local E, D, moved = P .. 'e:' .. ARGV[2] .. ':', P .. 'ed:' .. ARGV[2], {}
i = 3
while i <= #ARGV do
  local name, key, count = ARGV[i], E .. ARGV[i], tonumber(ARGV[i + 5])
  if redis.call('HGET', key, 'v') == ARGV[i + 1] then
    redis.call('HDEL', key, 'owner', 'until', 'claims')
    redis.call('HSET', key, 'v', redis.call('INCR', P .. 'ev'), 'at', ARGV[i + 2], 'last', ARGV[i + 3])
    redis.call('HINCRBY', key, 'runs', ARGV[i + 4])
    if ARGV[i + 2] == '' then
      redis.call('ZREM', D, name)
    else
      redis.call('ZADD', D, ARGV[i + 2], name)
    end
    if count > 0 then
      put(i + 6, count)
    end
    moved[#moved + 1] = position
  end
  i = i + 6 + count * 4
  position = position + 1
end
return moved
