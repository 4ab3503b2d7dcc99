-- ARGV: P, group, size, packed body, packed error, expires (ms or '').
local key = P .. 'g:' .. ARGV[2]
if redis.call('HSETNX', key, 'size', ARGV[3]) == 1 then
  redis.call('HSET', key, 'body', ARGV[4], 'error', ARGV[5], 'expires', ARGV[6])
  if ARGV[6] ~= '' then
    redis.call('PEXPIREAT', key, ARGV[6])
  end
end
