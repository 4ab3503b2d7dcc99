-- ARGV: P, group, more slots.  Returns the index of the first of them; -1 where it is not open.
local key = P .. 'g:' .. ARGV[2]
local size, sent = unpack(redis.call('HMGET', key, 'size', 'sent'))
if not size or sent then
  return -1
end
return redis.call('HINCRBY', key, 'size', ARGV[3]) - tonumber(ARGV[3])
