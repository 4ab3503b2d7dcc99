-- ARGV: P, scope, then names.  Returns how many there were.
local gone = 0
for i = 3, #ARGV do
  gone = gone + redis.call('DEL', P .. 'e:' .. ARGV[2] .. ':' .. ARGV[i])
  redis.call('SREM', P .. 'en:' .. ARGV[2], ARGV[i])
  redis.call('ZREM', P .. 'ed:' .. ARGV[2], ARGV[i])
end
return gone
