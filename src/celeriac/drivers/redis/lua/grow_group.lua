-- ARGV: P, group, more slots, an id or ''.  Returns the index of the first of them; -1 where the group
-- is not open.  With an id that it has met before it adds nothing and returns what it did then.
local key = P .. 'g:' .. ARGV[2]
local size, sent = unpack(redis.call('HMGET', key, 'size', 'sent'))
if not size or sent then
  return -1
end
if ARGV[4] ~= '' and redis.call('HSETNX', key, 'once:' .. ARGV[4], size) == 0 then
  return tonumber(redis.call('HGET', key, 'once:' .. ARGV[4]))
end
return redis.call('HINCRBY', key, 'size', ARGV[3]) - tonumber(ARGV[3])
