-- ARGV: P, groups...
for i = 2, #ARGV do
  local key = P .. 'g:' .. ARGV[i]
  if redis.call('EXISTS', key) == 1 then
    redis.call('HSET', key, 'sent', 1)
  end
end
