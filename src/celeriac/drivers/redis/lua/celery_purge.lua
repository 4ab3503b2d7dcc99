-- ARGV: P, '', unacked, index, queue, lists...  Returns how many messages went.
local gone = 0
for i = 6, #ARGV do
  local size = redis.pcall('LLEN', ARGV[i])
  if type(size) == 'number' then
    gone = gone + size
    redis.call('UNLINK', ARGV[i])
  end
end
for _, kind in ipairs({ 'cs:', 'cd:' }) do
  local key = P .. kind .. ARGV[5]
  for _, tag in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    gone = gone + redis.call('HDEL', P .. 'cm', tag)
  end
  redis.call('DEL', key)
end
return gone
